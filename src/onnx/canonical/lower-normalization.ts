import { shapeSize } from '../../tensor/schema.js'
import { floatConstant } from '../graph/constant.js'
import type { Node } from '../graph/graph.js'
import { type Build, given, int, numberOf, isRead, type Lowering, unsupported } from '../graph/lowering.js'

/** RMSNormalization (opset 23) is the runtime's SimplifiedLayerNormalization, which offers its statistics. */
export const lowerRmsNormalization: Lowering = (node, build) => [
  build.node('SimplifiedLayerNormalization', node.inputs, {
    axis: int(numberOf(node, 'axis', -1)),
    epsilon: { type: 'float', value: numberOf(node, 'epsilon', 1e-5) },
    stash_type: int(1)
  })
]

/** Epsilon of the contrib layer norms where the attribute is left out. */
const CONTRIB_EPSILON = 1e-12

const normAttributes = (node: Node) =>
  ({
    axis: int(-1),
    epsilon: { type: 'float', value: numberOf(node, 'epsilon', CONTRIB_EPSILON) },
    stash_type: int(1)
  }) as const

function refuseStatistics(node: Node, build: Build, indices: readonly number[]): void {
  if (indices.some((index) => isRead(node, index, build.context))) throw unsupported(node, 'its statistics')
}

/** input + skip (+ bias), normalised; the sum is the fourth output. */
export const lowerSkipLayerNormalization: Lowering = (node, build) => {
  refuseStatistics(node, build, [1, 2])
  const simplified = node.op === 'SkipSimplifiedLayerNormalization'
  const [x = '', skip = '', gamma = '', fourth = '', fifth = ''] = node.inputs
  const [beta, bias] = simplified ? ['', fourth] : [fourth, fifth]
  const added = build.add(x, skip)
  const sum = given(bias) ? build.add(added, bias) : added
  const op = simplified ? 'SimplifiedLayerNormalization' : 'LayerNormalization'
  const inputs = given(beta) ? [sum, gamma, beta] : [sum, gamma]
  return [build.node(op, inputs, normAttributes(node)), undefined, undefined, sum]
}

/** Word, position and segment embeddings, summed and normalised. */
export const lowerEmbedLayerNormalization: Lowering = (node, build) => {
  const [
    ids = '',
    segments = '',
    words = '',
    places = '',
    kinds = '',
    gamma = '',
    beta = '',
    mask = '',
    positions = ''
  ] = node.inputs
  const [, length = 0] = build.context.shapeOf(ids)
  const counted = build.context.ints(Array.from({ length }, (_, index) => index))
  const embedded = build.add(build.gather(words, ids), build.gather(places, given(positions) ? positions : counted))
  const sum = given(segments) ? build.add(embedded, build.gather(kinds, segments)) : embedded
  const normalised = build.node('LayerNormalization', [sum, gamma, beta], normAttributes(node))
  const lengths = (): string => {
    if (!given(mask)) throw unsupported(node, 'a mask index without a mask')
    return build.node('ReduceSum', [mask, build.context.ints([1])], { keepdims: int(0) })
  }
  return [normalised, isRead(node, 1, build.context) ? lengths() : undefined, sum]
}

/**
 * GroupNormalization as instance normalisation over groups, then scale and bias: per group until opset 20, per channel
 * from 21 on, told by their size.
 */
export const lowerGroupNormalization: Lowering = (node, build) => {
  const [x = '', scale = '', bias = ''] = node.inputs
  const shape = build.context.shapeOf(x)
  const [batch = 0, channels = 0, ...space] = shape
  const groups = numberOf(node, 'num_groups', 1)
  const grouped = build.reshape(x, [batch, groups, shapeSize(shape) / (batch * groups)])
  const unit = (value: number): string =>
    build.context.constant(
      floatConstant(
        build.context.fresh('groups'),
        Float32Array.from({ length: groups }, () => value)
      )
    )
  const epsilon = { type: 'float', value: numberOf(node, 'epsilon', 1e-5) } as const
  const normalised = build.node('InstanceNormalization', [grouped, unit(1), unit(0)], { epsilon })
  const perGroup = build.context.shapeOf(scale)[0] === groups
  const parts = perGroup ? groups : channels
  const inner = perGroup ? [channels / groups, ...space] : space
  const spread = (value: string): string => build.reshape(value, [parts, ...inner.map(() => 1)])
  const laid = build.reshape(normalised, [batch, parts, ...inner])
  return [build.reshape(build.add(build.mul(laid, spread(scale)), spread(bias)), shape)]
}

/** com.microsoft FusedMatMul = alpha a' b', where ' is an optional transpose of the last two axes. */
export const lowerFusedMatMul: Lowering = (node, build) => {
  if (numberOf(node, 'transBatchA', 0) === 1 || numberOf(node, 'transBatchB', 0) === 1) return undefined
  const flipped = (value: string, attribute: string): string => {
    const rank = build.context.shapeOf(value).length
    if (numberOf(node, attribute, 0) === 0 || rank < 2) return value
    const perm = Array.from({ length: rank }, (_, axis) => axis)
    return build.transpose(value, [...perm.slice(0, -2), rank - 1, rank - 2])
  }
  const [a = '', b = ''] = node.inputs
  return [build.scale(build.matmul(flipped(a, 'transA'), flipped(b, 'transB')), numberOf(node, 'alpha', 1))]
}
