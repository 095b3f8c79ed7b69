import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { Graph, Node } from '../../onnx/graph/graph.js'
import { type RewriteContext, rewriteGraph } from '../../onnx/graph/rewrite.js'
import { attentionLayers, type HeadAxis, type HeadTensor } from '../rewrite/attention.js'
import type { Adapter } from '../method/method.js'
import { PROMPT } from '../files/adapter-keys.js'
import { int, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

export interface PrefixOptions {
  readonly tokens: number
  /** Attention layers. */
  readonly layers: number
  /** Width of all keys of one layer together: heads (of keys and values) x features. */
  readonly width: number
  readonly seed: string
}

/**
 * Prefix tuning (Li & Liang 2021, https://arxiv.org/abs/2101.00190): trained keys and values that every layer attends to
 * besides those of the text, behind the rotation of positions. Additive.
 *
 * `prompt_embeddings` float32[tokens, 2 * layers * width] as PEFT lays it out: keys of layer i at 2i, its values at
 * 2i + 1, heads side by side. Starts uniform in +-1/sqrt(width), so not as the base model. Prefixes of different peers do
 * not multiply each other: the mean of two is a prefix, and mixing has no cross term.
 *
 * The graph runs at the longer length, where the first positions' own keys and values are replaced; what is computed at
 * those positions is read by nobody. Positions of the text start behind the prefix.
 */
export function createPrefix({ tokens, layers, width, seed }: PrefixOptions): Adapter {
  const rng = seededRng(seed, 'prefix')
  const bound = 1 / Math.sqrt(width)
  const shape = [tokens, 2 * layers * width]
  const initial = Float32Array.from({ length: tokens * 2 * layers * width }, () => (2 * rng.uniform() - 1) * bound)
  const tensors = [{ name: PROMPT, shape, initial }]
  return {
    tensors,
    virtualTokens: tokens,
    rewrite: (graph) => replaceFronts(withTensors(graph, tensors), { tokens, layers, width })
  }
}

/** How many attention layers a model has, and how wide their keys are, told by the names of its projections. */
export function keyWidths(linears: readonly LinearModule[]): number[] {
  const named = (names: readonly string[]) => linears.filter(({ path }) => names.includes(path.split('.').at(-1) ?? ''))
  const own = named(['k_proj', 'key', 'k', 'k_lin'])
  if (own.length > 0) return own.map(({ outFeatures }) => outFeatures)
  return named(['c_attn', 'query_key_value', 'qkv_proj', 'qkv', 'Wqkv']).map(({ outFeatures }) => outFeatures / 3)
}

type Layout = Pick<PrefixOptions, 'tokens' | 'layers' | 'width'>

/** The tensors to replace, with their place in the prefix. */
interface Front {
  readonly tensor: HeadTensor
  readonly index: number
}

function replaceFronts(graph: Graph, layout: Layout): Graph {
  const layers = attentionLayers(graph)
  const fronts = layers.flatMap(({ keys, values }, layer): Front[] => [
    { tensor: keys, index: 2 * layer },
    { tensor: values, index: 2 * layer + 1 }
  ])
  checkLayers(fronts, layout)
  const byReader = new Map<Node, Front[]>()
  for (const front of fronts) {
    const { reader } = front.tensor
    byReader.set(reader, [...(byReader.get(reader) ?? []), front])
  }
  let prefix: Prefix | undefined
  return rewriteGraph(graph, (node, context) => {
    const read = byReader.get(node)
    if (read === undefined) return false
    prefix ??= splitPrefix(fronts[0] as Front, layout, context)
    const own = prefix
    const replaced = new Map(read.map((front) => [front.tensor.value, emitFront(front, own, context)]))
    const inputs = node.inputs.map((input) => replaced.get(input) ?? input)
    context.emit({ ...node, inputs, outputs: node.outputs, ...shapeOfNode(node, context) })
    return true
  })
}

const shapeOfNode = (node: Node, context: RewriteContext) => ({ shape: context.shapeOf(node.outputs[0] as string) })

function checkLayers(fronts: readonly Front[], { layers, width }: Layout): void {
  const found = fronts.map(({ tensor }) => sizeOf(tensor, 'head') * sizeOf(tensor, 'feature'))
  if (found.length === 2 * layers && found.every((size) => size === width)) return
  throw new PeertuneError('config/no-attention', 'prefix tuning does not find the attention of every layer', {
    facts: { layers, width, found },
    hint: 'choose another method, or export the model with attention spelled out (eager or sdpa)'
  })
}

const sizeOf = ({ axes, shape }: HeadTensor, axis: HeadAxis): number => shape[axes.indexOf(axis)] as number

interface Prefix {
  readonly tokens: number
  /** [tokens, 2 * layers, heads, features] */
  readonly parts: string
}

function splitPrefix({ tensor }: Front, { tokens, layers }: Layout, context: RewriteContext): Prefix {
  const shape = [tokens, 2 * layers, sizeOf(tensor, 'head'), sizeOf(tensor, 'feature')]
  return { tokens, parts: context.emit({ op: 'Reshape', inputs: [PROMPT, context.ints(shape)], shape }) }
}

/** The prefix of one tensor, then the tensor without its first positions. */
function emitFront({ tensor, index }: Front, { tokens, parts }: Prefix, context: RewriteContext): string {
  const { value, axes, shape } = tensor
  const axis = axes.indexOf('position')
  const short = shape.with(axis, tokens)
  const own = context.emit({
    op: 'Slice',
    inputs: [parts, context.ints([index]), context.ints([index + 1]), context.ints([1])],
    shape: [tokens, 1, sizeOf(tensor, 'head'), sizeOf(tensor, 'feature')]
  })
  // The axes of `parts` are position, one layer (which stands for the batch), head, feature.
  const order: readonly HeadAxis[] = ['position', 'batch', 'head', 'feature']
  const perm = axes.map((name) => order.indexOf(name))
  const laidOut = short.with(axes.indexOf('batch'), 1)
  const front = context.emit({
    op: 'Transpose',
    inputs: [own],
    attributes: { perm: { type: 'ints', value: perm } },
    shape: laidOut
  })
  const expanded = context.emit({ op: 'Expand', inputs: [front, context.ints(short)], shape: short })
  const length = shape[axis] as number
  const rest = context.emit({
    op: 'Slice',
    inputs: [value, context.ints([tokens]), context.ints([length]), context.ints([axis])],
    shape: shape.with(axis, length - tokens)
  })
  return context.emit({ op: 'Concat', inputs: [expanded, rest], attributes: { axis: int(axis) }, shape })
}
