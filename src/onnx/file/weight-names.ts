import type { ElementType, Graph, Initializer, Node } from '../graph/graph.js'
import { wrapperPrefix } from '../graph/module-path.js'
import { pruneGraph } from '../graph/rewrite.js'
import { sameTensor } from '../graph/same-tensor.js'
import { tieWeights } from './tie-weights.js'
import type { NamedWeights, Weight } from '../graph/weight.js'

/** Input slots that are parameters by the operator's definition. */
const SLOTS: Readonly<Record<string, Readonly<Record<number, 'weight' | 'bias'>>>> = {
  MatMul: { 1: 'weight' },
  Gemm: { 1: 'weight', 2: 'bias' },
  Transpose: { 0: 'weight' },
  Gather: { 0: 'weight' },
  Conv: { 1: 'weight', 2: 'bias' },
  LayerNormalization: { 1: 'weight', 2: 'bias' },
  GroupNormalization: { 1: 'weight', 2: 'bias' },
  InstanceNormalization: { 1: 'weight', 2: 'bias' },
  RMSNormalization: { 1: 'weight' },
  SimplifiedLayerNormalization: { 1: 'weight' },
  SkipLayerNormalization: { 2: 'weight', 3: 'bias' },
  SkipSimplifiedLayerNormalization: { 2: 'weight' },
  Attention: { 1: 'weight', 2: 'bias' }
}

/** Operators whose weight is a matrix that x is multiplied by. */
const LINEAR_OPS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'Transpose', 'Attention'])

/** Weights of float16 are widened when they are copied (see weights.ts). */
const isWeightType = (type: ElementType | undefined): boolean => type === 'float32' || type === 'float16'

/** Buffers that carry a dotted name like a parameter's but are constants of the model. */
const BUFFER_SUFFIXES = ['inv_freq', 'position_ids', 'masked_bias', 'running_mean', 'running_var']

/**
 * Gives every use of a weight its own value, named after the module that uses it. Exporters let equal tensors share one
 * initializer (all-one norm weights, zero biases), so an initializer's name says nothing: trained under it, a shared
 * tensor would get the sum of its users' gradients. Tied tensors (an embedding and its transpose in a language model
 * head) become one value under the embedding's name.
 */
export function nameWeights(graph: Graph, prefix = wrapperPrefix(weightModules(graph))): NamedWeights {
  const weights = new Map<string, Weight>()
  const nodes = graph.nodes.map((node) => {
    const inputs = node.inputs.map((input) => (graph.initializers.has(input) ? ownName(input) : input))
    for (const use of usesOf(node, graph)) {
      const module = use.module.slice(prefix.length)
      const name = `${module}.${use.slot}`
      const known = weights.get(name)
      // A second tensor under one name is no parameter we can name; it stays a constant.
      if (known !== undefined && !sameTensor(known.initializer, use.initializer)) continue
      const { index, ...weight } = use
      weights.set(name, { ...weight, name, module })
      inputs[index] = name
    }
    return { ...node, inputs }
  })
  return tieWeights(attach({ ...graph, nodes }, weights))
}

/** Module paths of the weights, as the exporter has them. */
export const weightModules = (graph: Graph): string[] => [
  ...new Set(graph.nodes.flatMap((node) => usesOf(node, graph).map((use) => use.module)))
]

/** What an initializer is called where it is no named weight, so that the two kinds of names cannot meet. */
const ownName = (name: string): string => `constant:${name}`

interface Use extends Omit<Weight, 'name'> {
  readonly index: number
}

function usesOf(node: Node, graph: Graph): Use[] {
  return node.inputs.flatMap((input, index) => {
    const initializer = graph.initializers.get(input)
    if (!isWeightType(initializer?.type) || initializer === undefined || initializer.shape.length === 0) return []
    const place = placeOf(node, index, initializer)
    if (place === undefined) return []
    const anonymous = !input.endsWith(`.${place.slot}`)
    const transposed = anonymous && (node.op === 'MatMul' || node.op === 'Attention') && initializer.shape.length === 2
    return [{ ...place, transposed, initializer, index, ...linearOf(node, place.slot, initializer) }]
  })
}

function linearOf(node: Node, slot: string, { shape }: Initializer): Pick<Weight, 'linear'> {
  const isLinear = LINEAR_OPS.has(node.op)
  if (!isLinear || slot !== 'weight') return {}
  const [first = 0, second = 0] = shape
  const outFirst = node.op === 'Transpose' || node.attributes.transB?.value === 1
  const [inFeatures, outFeatures] = outFirst ? [second, first] : [first, second]
  return { linear: { inFeatures, outFeatures, outFirst } }
}

/** An anonymous vector is what the exporter computed from one (Gemma's 1 + weight), not what is stored. */
function placeOf(node: Node, index: number, initializer: Initializer): { module: string; slot: string } | undefined {
  const { name } = initializer
  const slot = slotOf(node, index, initializer)
  const dot = name.lastIndexOf('.')
  const owner = node.op === 'Attention' ? node.module || node.name : node.module
  if (slot !== undefined && owner !== undefined && owner !== '') return { module: owner, slot }
  const own = name.slice(dot + 1)
  if (dot < 0 || BUFFER_SUFFIXES.includes(own)) return undefined
  const module = name.slice(0, dot)
  if (slot === own || (slot === undefined && node.module === module)) return { module, slot: own }
  return undefined
}

function slotOf(node: Node, index: number, { name, shape }: Initializer): string | undefined {
  if ((node.op === 'Add' || node.op === 'Mul') && shape.length === 1) {
    const own = /\.(\w+)$/.exec(name)?.[1]
    return own === undefined || BUFFER_SUFFIXES.includes(own) ? undefined : own
  }
  const slot = SLOTS[node.op]?.[index]
  const matrix = LINEAR_OPS.has(node.op) || node.op === 'Gather'
  return slot === 'weight' && matrix && shape.length !== 2 ? undefined : slot
}

function attach(graph: Graph, weights: ReadonlyMap<string, Weight>): NamedWeights {
  const constants = Array.from(graph.initializers.values(), (constant) => ({
    ...constant,
    name: ownName(constant.name)
  }))
  const named = Array.from(weights.values(), ({ name, initializer }) => ({ ...initializer, name }))
  const initializers = new Map([...constants, ...named].map((initializer) => [initializer.name, initializer]))
  const values = new Map([...graph.values].filter(([name]) => !graph.initializers.has(name)))
  for (const { name, type, shape } of initializers.values()) values.set(name, { name, type, shape })
  return { graph: pruneGraph({ ...graph, initializers, values }), weights }
}
