import { scalarValue } from '../../onnx/graph/constant.js'
import type { Graph, Node } from '../../onnx/graph/graph.js'
import { staticShape } from '../../onnx/graph/rewrite.js'

/** Axes of keys and values, as they lie in memory. */
export type HeadAxis = 'batch' | 'head' | 'position' | 'feature'

/** A value of the graph that holds the keys or the values of one layer, before heads are repeated or scores made. */
export interface HeadTensor {
  readonly value: string
  /** The node that reads it on the way to the scores or to the mixture. */
  readonly reader: Node
  readonly axes: readonly HeadAxis[]
  readonly shape: readonly number[]
}

export interface AttentionLayer {
  readonly keys: HeadTensor
  readonly values: HeadTensor
}

/**
 * Every softmax(... q k^T ...) v of a canonical graph, in order: q k^T a product of four axes, between it and the softmax
 * only additions, scalings and masks, behind the softmax at most a guard against rows without any allowed position.
 */
export function attentionLayers(graph: Graph): AttentionLayer[] {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  const search = { graph, producers }
  return graph.nodes.flatMap((node) => {
    if (node.op !== 'Softmax') return []
    const scores = productBehind(node.inputs[0] as string, search)
    const mixture = mixtureAfter(node.outputs[0] as string, graph)
    if (scores === undefined || mixture === undefined) return []
    const keys = headTensor(scores, ['batch', 'head', 'feature', 'position'], search)
    const values = headTensor(mixture, ['batch', 'head', 'position', 'feature'], search)
    return keys === undefined || values === undefined ? [] : { keys, values }
  })
}

interface Search {
  readonly graph: Graph
  readonly producers: ReadonlyMap<string, Node>
}

const SCORE_OPS: ReadonlySet<string> = new Set(['Add', 'Mul', 'Div', 'Where'])

/** The nearest product that the scores are made of. */
function productBehind(value: string, search: Search): Node | undefined {
  const node = search.producers.get(value)
  if (node?.op === 'MatMul') return node
  if (node === undefined || !SCORE_OPS.has(node.op)) return undefined
  for (const input of node.inputs) {
    const product = productBehind(input, search)
    if (product !== undefined) return product
  }
  return undefined
}

/** The product whose left factor is these weights, guarded or not. */
function mixtureAfter(weights: string, graph: Graph): Node | undefined {
  for (const node of graph.nodes) {
    if (!node.inputs.includes(weights)) continue
    if (node.op === 'MatMul' && node.inputs[0] === weights) return node
    if (node.op === 'Where') return mixtureAfter(node.outputs[0] as string, graph)
  }
  return undefined
}

/** Walks back from a product's right factor over transposes, scalings and repeated heads. */
function headTensor(product: Node, factorAxes: readonly HeadAxis[], search: Search): HeadTensor | undefined {
  let value = product.inputs[1] as string
  let reader = product
  let axes = factorAxes
  if (shapeOf(value, search).length !== axes.length) return undefined
  for (;;) {
    const step = stepBack(value, axes, search)
    if (step === undefined) return { value, reader, axes, shape: shapeOf(value, search) }
    ;({ value, reader, axes } = step)
  }
}

const shapeOf = (value: string, { graph }: Search): readonly number[] => staticShape(graph.values.get(value), value)

function stepBack(
  value: string,
  axes: readonly HeadAxis[],
  search: Search
): Pick<HeadTensor, 'value' | 'reader' | 'axes'> | undefined {
  const node = search.producers.get(value)
  const [input = '', other = ''] = node?.inputs ?? []
  if (node?.op === 'Transpose') {
    const perm = node.attributes.perm?.value as readonly number[]
    const before = perm.map((_, axis) => axes[perm.indexOf(axis)] as HeadAxis)
    return { value: input, reader: node, axes: before }
  }
  if (node?.op === 'Mul' || node?.op === 'Div') {
    const { initializers } = search.graph
    if (scalarValue(initializers.get(other)) !== undefined) return { value: input, reader: node, axes }
    const scaleFirst = node.op === 'Mul' && scalarValue(initializers.get(input)) !== undefined
    return scaleFirst ? { value: other, reader: node, axes } : undefined
  }
  return node?.op === 'Reshape' ? repeatedHeads(input, axes, search) : undefined
}

/** [batch, heads, position, feature] -> [.., 1, ..] -> expanded -> [batch, more heads, position, feature] */
function repeatedHeads(value: string, axes: readonly HeadAxis[], search: Search) {
  const expand = search.producers.get(value)
  const apart = expand?.op === 'Expand' ? search.producers.get(expand.inputs[0] as string) : undefined
  if (apart?.op !== 'Reshape') return undefined
  const source = apart.inputs[0] as string
  const shape = shapeOf(source, search)
  const repeated = shapeOf(apart.outputs[0] as string, search)
  const isInserted = shape.length === 4 && repeated.length === 5 && repeated[2] === 1
  return isInserted ? { value: source, reader: apart, axes } : undefined
}
