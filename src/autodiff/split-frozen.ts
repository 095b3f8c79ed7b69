import { bytesOfElements } from '../onnx/graph/element-type.js'
import { productFlops } from '../onnx/graph/flops.js'
import type { Graph, Node, ValueInfo } from '../onnx/graph/graph.js'
import { pruneGraph } from '../onnx/graph/rewrite.js'
import { type Shape, shapeSize } from '../tensor/schema.js'

/** A forward graph in two: below, what no parameter reaches and an example always comes out of alike. */
export interface FrozenSplit {
  /** Batch inputs -> boundary values. */
  readonly frozen: Graph
  /** Boundary values, batch inputs and parameters -> what the whole graph gives. */
  readonly trained: Graph
  /** Values that cross, float32, one equal part of the first axis for each example. */
  readonly boundary: readonly string[]
}

export interface SplitOptions {
  /** Graph inputs that train. */
  readonly parameters: readonly string[]
  /** Graph inputs that belong to a batch and not to an example. */
  readonly perBatch?: readonly string[]
  readonly batchSize: number
  /** Share of the forward pass's products that must be frozen for a split to be worth its memory. */
  readonly worthwhileShare?: number
}

/** Recomputing one of these from a value of the same size costs less than it would to keep both. */
const CHEAP: ReadonlySet<string> = new Set(
  'Add Cast Expand Flatten Gather LayerNormalization Mul Reshape SimplifiedLayerNormalization Squeeze Sub Transpose Unsqueeze Where'.split(
    ' '
  )
)

const RESHAPES: ReadonlySet<string> = new Set(['Flatten', 'Reshape', 'Squeeze', 'Unsqueeze'])

/**
 * Cuts where the fewest bytes cross: at the hidden state below the lowest adapter, not at the products that read it.
 * Undefined where too little is frozen, or where what crosses does not come in one part per example.
 */
export function splitFrozen(graph: Graph, options: SplitOptions): FrozenSplit | undefined {
  const { parameters, perBatch = [], batchSize, worthwhileShare = 0.15 } = options
  const own = new Set([...parameters, ...perBatch])
  const examples = graph.inputs.map(({ name }) => name).filter((name) => !own.has(name))
  const above = nodesReachedFrom(graph, own)
  const varying = nodesReachedFrom(graph, new Set(examples))
  const below = graph.nodes.filter((node) => varying.has(node) && !above.has(node))
  const cut = lowestCut(graph, { below, above })
  const boundary = [...cut.boundary]
  const frozenNodes = pruneGraph({ ...graph, nodes: below, outputs: boundary.map((name) => info(graph, name)) }).nodes
  const frozenFlops = productFlops(graph, frozenNodes)
  if (boundary.length === 0 || frozenFlops < worthwhileShare * productFlops(graph, graph.nodes)) return undefined
  if (!boundary.every((name) => isPerExample(info(graph, name), batchSize))) return undefined
  const constant = graph.nodes.filter((node) => !varying.has(node) && !above.has(node))
  const within = new Set([...constant, ...below])
  const over = new Set([...constant, ...cut.above])
  return {
    frozen: part(graph, { nodes: graph.nodes.filter((node) => within.has(node)), outputs: boundary, given: [] }),
    trained: part(graph, {
      nodes: graph.nodes.filter((node) => over.has(node)),
      outputs: graph.outputs.map(({ name }) => name),
      given: boundary
    }),
    boundary
  }
}

const info = (graph: Graph, name: string): ValueInfo => graph.values.get(name) ?? { name, type: 'float32', shape: [] }

const isPerExample = ({ type, shape }: ValueInfo, batchSize: number): boolean =>
  type === 'float32' && typeof shape[0] === 'number' && shape[0] % batchSize === 0

function nodesReachedFrom(graph: Graph, sources: ReadonlySet<string>): ReadonlySet<Node> {
  const values = new Set(sources)
  const reached = new Set<Node>()
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => values.has(input))) continue
    reached.add(node)
    for (const output of node.outputs) values.add(output)
  }
  return reached
}

interface Sides {
  readonly below: readonly Node[]
  readonly above: ReadonlySet<Node>
}

/** Nodes move from below to above, nearest the cut first, while no more bytes cross than before. */
function lowestCut(graph: Graph, { below, above: start }: Sides) {
  const above = new Set(start)
  const producer = new Map(below.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  const boundary = new Set<string>()

  /** Whether `value` costs nothing more above: it is there, or another shape of what is there. */
  const isThere = (value: string): boolean => {
    const node = producer.get(value)
    if (node === undefined || above.has(node) || boundary.has(value)) return true
    return RESHAPES.has(node.op) && node.inputs.every(isThere)
  }
  const cross = (inputs: readonly string[]): void => {
    for (const input of inputs) {
      const node = producer.get(input)
      if (node === undefined || above.has(node)) continue
      if (boundary.has(input) || !isThere(input)) boundary.add(input)
      else lift(node)
    }
  }
  const lift = (node: Node): void => {
    above.add(node)
    for (const output of node.outputs) boundary.delete(output)
    cross(node.inputs)
  }
  for (const node of start) cross(node.inputs)
  cross(graph.outputs.map(({ name }) => name))
  for (let changed = true; changed; ) {
    changed = false
    for (const node of below.toReversed()) {
      const crossing = node.outputs.filter((output) => boundary.has(output))
      if (crossing.length === 0) continue
      const added = [...new Set(node.inputs)].filter((input) => !isThere(input))
      const change = bytesOf(graph, added) - bytesOf(graph, crossing)
      if (change > 0 || (change === 0 && !CHEAP.has(node.op))) continue
      lift(node)
      changed = true
    }
  }
  return { above, boundary }
}

const bytesOf = (graph: Graph, names: readonly string[]): number =>
  names.reduce((sum, name) => {
    const { type, shape } = info(graph, name)
    return sum + bytesOfElements(type, shapeSize(shape as Shape))
  }, 0)

interface Part {
  readonly nodes: readonly Node[]
  readonly outputs: readonly string[]
  /** Values that come from outside. */
  readonly given: readonly string[]
}

function part(graph: Graph, { nodes, outputs, given }: Part): Graph {
  const whole = pruneGraph({ ...graph, nodes, outputs: outputs.map((name) => info(graph, name)) })
  const read = new Set(whole.nodes.flatMap((node) => node.inputs))
  const inputs = [...graph.inputs, ...given.map((name) => info(graph, name))].filter(({ name }) => read.has(name))
  return pruneGraph({ ...whole, inputs })
}
