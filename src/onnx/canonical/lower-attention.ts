import type { Node } from '../graph/graph.js'
import { type Build, given, int, numberOf, isRead, type Lowering, unsupported } from '../graph/lowering.js'
import { rotate, rotaryTables } from './lower-rotary.js'

/** A tensor [batch, heads, length, size]. */
interface Heads {
  readonly value: string
  readonly batch: number
  readonly heads: number
  readonly length: number
  readonly size: number
}

/** What happens to the scores between product and softmax, in this order. */
type Adjustment =
  | { readonly kind: 'add'; readonly value: string }
  /** Scores where the condition is false become `otherwise`. */
  | { readonly kind: 'keep'; readonly condition: string; readonly otherwise: number }
  | { readonly kind: 'cap'; readonly limit: number }

interface AttentionParts {
  readonly query: Heads
  readonly key: Heads
  readonly value: Heads
  readonly scale: number
  readonly adjustments: readonly Adjustment[]
  /** A row may have no position at all; it then gives zeros, as in PyTorch. */
  readonly mayBeEmpty?: boolean
}

/**
 * softmax(adjust(scale q k^T)) v; keys and values of fewer heads are repeated (Ainslie et al. 2023, grouped-query
 * attention, https://arxiv.org/abs/2305.13245). Returns [batch, heads, queries, size of values].
 */
function attend(build: Build, { query, key, value, scale, adjustments, mayBeEmpty }: AttentionParts): Heads {
  const keys = repeatHeads(build, key, query.heads)
  const values = repeatHeads(build, value, query.heads)
  const products = build.matmul(query.value, build.transpose(keys, [0, 1, 3, 2]))
  const scores = adjustments.reduce((x, adjustment) => adjust(build, x, adjustment), build.scale(products, scale))
  const softmax = build.softmax(scores)
  const weights = mayBeEmpty ? build.where(build.unary('IsNaN', softmax), build.context.scalar(0), softmax) : softmax
  return { ...query, value: build.matmul(weights, values), size: value.size }
}

function adjust(build: Build, scores: string, adjustment: Adjustment): string {
  if (adjustment.kind === 'add') return build.add(scores, adjustment.value)
  if (adjustment.kind === 'keep')
    return build.where(adjustment.condition, scores, build.context.scalar(adjustment.otherwise))
  return build.scale(build.unary('Tanh', build.scale(scores, 1 / adjustment.limit)), adjustment.limit)
}

function repeatHeads(build: Build, { value, batch, heads, length, size }: Heads, wanted: number): string {
  if (heads === wanted) return value
  const apart = build.reshape(value, [batch, heads, 1, length, size])
  const repeated = build.expand(apart, [batch, heads, wanted / heads, length, size])
  return build.reshape(repeated, [batch, wanted, length, size])
}

const count = (length: number): number[] => Array.from({ length }, (_, index) => index)

/** bool[queries, keys]: on and below the diagonal, and at most `window` positions back. */
function causalMask(
  build: Build,
  [queries, keys]: readonly [queries: number, keys: number],
  window = Number.POSITIVE_INFINITY
): string {
  const rows = build.reshape(build.context.ints(count(queries)), [queries, 1])
  const columns = build.context.ints(count(keys))
  const causal = build.node('GreaterOrEqual', [rows, columns])
  if (window >= keys) return causal
  const near = build.node('Less', [build.sub(rows, columns), build.context.ints([window])])
  return build.node('And', [causal, near])
}

/** [batch, length, heads * size] -> [batch, heads, length, size]. */
function apart(
  build: Build,
  value: string,
  [batch, length, heads, size]: readonly [number, number, number, number]
): Heads {
  const value4d = build.transpose(build.reshape(value, [batch, length, heads, size]), [0, 2, 1, 3])
  return { value: value4d, batch, heads, length, size }
}

/** [batch, heads, length, size] -> [batch, length, heads * size]. */
const together = (build: Build, { value, batch, heads, length, size }: Heads): string =>
  build.reshape(build.transpose(value, [0, 2, 1, 3]), [batch, length, heads * size])

function headsOf(build: Build, value: string, heads: number): Heads {
  const shape = build.context.shapeOf(value)
  if (shape.length === 4) {
    const [batch = 0, own = 0, length = 0, size = 0] = shape
    return { value, batch, heads: own, length, size }
  }
  const [batch = 0, length = 0, width = 0] = shape
  return apart(build, value, [batch, length, heads, width / heads])
}

/** ONNX Attention (opset 23 and later), on three or four axes. https://onnx.ai/onnx/operators/onnx__Attention.html */
export const lowerOnnxAttention: Lowering = (node, build) => {
  const [q = '', k = '', v = '', mask = '', ...cache] = node.inputs
  if (cache.some(given)) throw unsupported(node, 'a key/value cache')
  if ([1, 2, 3].some((index) => isRead(node, index, build.context))) throw unsupported(node, 'further outputs')
  const shape = build.context.shapeOf(q)
  const query = headsOf(build, q, numberOf(node, 'q_num_heads', 1))
  const key = headsOf(build, k, numberOf(node, 'kv_num_heads', 1))
  const value = headsOf(build, v, numberOf(node, 'kv_num_heads', 1))
  const out = attend(build, {
    query,
    key,
    value,
    scale: numberOf(node, 'scale', 1 / Math.sqrt(query.size)),
    adjustments: onnxAdjustments(node, build, { mask, query, key }),
    mayBeEmpty: mask !== ''
  })
  return [shape.length === 4 ? out.value : together(build, out)]
}

function onnxAdjustments(
  node: Node,
  build: Build,
  { mask, query, key }: { readonly mask: string; readonly query: Heads; readonly key: Heads }
): Adjustment[] {
  const adjustments: Adjustment[] = []
  const limit = numberOf(node, 'softcap', 0)
  if (limit !== 0) adjustments.push({ kind: 'cap', limit })
  if (numberOf(node, 'is_causal', 0) === 1)
    adjustments.push({
      kind: 'keep',
      condition: causalMask(build, [query.length, key.length]),
      otherwise: Number.NEGATIVE_INFINITY
    })
  if (mask === '') return adjustments
  if (build.context.typeOf(mask) !== 'bool') return [...adjustments, { kind: 'add', value: mask }]
  return [...adjustments, { kind: 'keep', condition: mask, otherwise: Number.NEGATIVE_INFINITY }]
}

/** What contrib attention adds to scores it is told to leave out, where the attribute is left out. */
const MASK_FILTER_VALUE = -10000

interface PaddingMask {
  readonly node: Node
  readonly mask: string
  /** What may be left out. */
  readonly key: Heads
}

/**
 * The contrib operators' integer masks: [batch] valid lengths, [batch, keys] or [batch, queries, keys] 1 where attention
 * is allowed. Returns what is added to the scores.
 */
function paddingMask(build: Build, { node, mask, key }: PaddingMask): Adjustment {
  const { batch, length: keys } = key
  const shape = build.context.shapeOf(mask)
  const type = build.context.typeOf(mask)
  const filter = build.context.scalar(numberOf(node, 'mask_filter_value', MASK_FILTER_VALUE))
  const added = (keep: string, dims: readonly number[]): Adjustment => ({
    kind: 'add',
    value: build.where(build.reshape(keep, dims), build.context.scalar(0), filter)
  })
  const bool = (): string => (type === 'bool' ? mask : build.node('Cast', [mask], { to: int(9) }))
  if (shape.length === 2 && shape[1] === keys) return added(bool(), [batch, 1, 1, keys])
  if (shape.length === 3) return added(bool(), [batch, 1, shape[1] as number, keys])
  if (shape.length !== 1 || shape[0] !== batch) throw unsupported(node, `a mask of shape [${shape}]`)
  const lengths = build.reshape(build.node('Cast', [mask], { to: int(7) }), [batch, 1])
  return added(build.node('Less', [build.context.ints(count(keys)), lengths]), [batch, 1, 1, keys])
}

function contribAdjustments(
  build: Build,
  { node, mask, bias, query, key }: PaddingMask & { readonly bias: string | undefined; readonly query: Heads }
): Adjustment[] {
  const adjustments: Adjustment[] = []
  if (given(bias)) adjustments.push({ kind: 'add', value: bias })
  if (given(mask)) adjustments.push(paddingMask(build, { node, mask, key }))
  if (numberOf(node, 'unidirectional', 0) === 1)
    adjustments.push({
      kind: 'keep',
      condition: causalMask(build, [query.length, key.length]),
      otherwise: Number.NEGATIVE_INFINITY
    })
  return adjustments
}

/** com.microsoft MultiHeadAttention: query, key and value [batch, length, width], or packed [batch, length, heads, 2 or 3, size]. */
export const lowerMultiHeadAttention: Lowering = (node, build) => {
  const [, , , , mask = '', bias = '', ...cache] = node.inputs
  if (cache.some((past) => given(past) && build.context.shapeOf(past)[2] !== 0))
    throw unsupported(node, 'a key/value cache')
  const [query, key, value] = multiHeadInputs(node, build) as [Heads, Heads, Heads]
  const out = attend(build, {
    query,
    key,
    value,
    scale: numberOf(node, 'scale', 0) || 1 / Math.sqrt(query.size),
    adjustments: contribAdjustments(build, { node, mask, bias, query, key })
  })
  const transposed = (x: Heads, index: number) => (isRead(node, index, build.context) ? x.value : undefined)
  return [together(build, out), transposed(key, 1), transposed(value, 2)]
}

function multiHeadInputs(node: Node, build: Build): Heads[] {
  const [q = '', k = '', v = '', packedBias = ''] = node.inputs
  const heads = numberOf(node, 'num_heads', 1)
  const batch = build.context.shapeOf(q)[0] as number
  const packed = (value: string, parts: number): string[] => {
    const [, length = 0, , , size = 0] = build.context.shapeOf(value)
    return build
      .split(value, Array<number>(parts).fill(1), 3)
      .map((part) => build.reshape(part, [batch, length, heads * size]))
  }
  const lengthOf = (value: string): number => build.context.shapeOf(value)[1] as number
  const [values, lengths, widths] = given(v)
    ? [[q, k, v], [q, k, v].map(lengthOf), [q, k, v].map((x) => build.context.shapeOf(x).at(-1) as number)]
    : given(k)
      ? [[q, ...packed(k, 2)], [q, k, k].map(lengthOf), Array<number>(3).fill(build.context.shapeOf(q)[2] as number)]
      : [packed(q, 3), [q, q, q].map(lengthOf), Array<number>(3).fill(heads * (build.context.shapeOf(q)[4] as number))]
  const biases = given(packedBias) ? build.split(packedBias, widths, 0) : []
  return values.map((value, index) => {
    if (given(v) && index > 0 && build.context.shapeOf(value).length === 4) return headsOf(build, value, heads)
    const biased = biases[index] === undefined ? value : build.add(value, biases[index])
    const width = widths[index] as number
    return apart(build, biased, [batch, lengths[index] as number, heads, width / heads])
  })
}

/** com.microsoft Attention: one product makes query, key and value. */
export const lowerContribAttention: Lowering = (node, build) => {
  const [x = '', weight = '', packedBias = '', mask = '', past = '', bias = ''] = node.inputs
  if (given(past)) throw unsupported(node, 'a key/value cache')
  if (numberOf(node, 'do_rotary', 0) === 1) throw unsupported(node, 'do_rotary')
  const heads = numberOf(node, 'num_heads', 1)
  const [batch = 0, length = 0] = build.context.shapeOf(x)
  const width = build.context.shapeOf(weight)[1] as number
  const sizes = node.attributes.qkv_hidden_sizes
  const widths = sizes?.type === 'ints' && sizes.value.length === 3 ? sizes.value : Array<number>(3).fill(width / 3)
  const product = build.matmul(x, weight)
  const packed = given(packedBias) ? build.add(product, packedBias) : product
  const [query, key, value] = build
    .split(packed, widths, 2)
    .map((part, index) => apart(build, part, [batch, length, heads, (widths[index] as number) / heads])) as [
    Heads,
    Heads,
    Heads
  ]
  if (isRead(node, 1, build.context)) throw unsupported(node, 'the cache that it returns')
  const out = attend(build, {
    query,
    key,
    value,
    scale: numberOf(node, 'scale', 0) || 1 / Math.sqrt(query.size),
    adjustments: contribAdjustments(build, { node, mask, bias, query, key })
  })
  return [together(build, out)]
}

/**
 * com.microsoft GroupQueryAttention as a decoder's first pass over a prompt: an empty cache, causal, every row from
 * position 0. The given valid lengths matter for padding behind the text alone, whose rows are not scored.
 */
export const lowerGroupQueryAttention: Lowering = (node, build) => {
  const [q = '', k = '', v = '', pastKey = '', pastValue = '', , , cos = '', sin = '', positions = '', bias, ...more] =
    node.inputs
  const { context } = build
  if ([pastKey, pastValue].some((past) => given(past) && context.shapeOf(past)[2] !== 0))
    throw unsupported(node, 'a key/value cache that is not empty')
  if (more.some(given) || numberOf(node, 'smooth_softmax', 0) === 1) throw unsupported(node, 'an attention sink')
  const [heads, groups] = [numberOf(node, 'num_heads', 1), numberOf(node, 'kv_num_heads', 1)]
  const [batch = 0, length = 0, width = 0] = context.shapeOf(q)
  const size = given(k) ? width / heads : width / (heads + 2 * groups)
  const parts = given(k) ? [q, k, v] : build.split(q, [heads * size, groups * size, groups * size], 2)
  const [query, key, value] = parts.map((part, index) =>
    apart(build, part, [batch, length, index === 0 ? heads : groups, size])
  ) as [Heads, Heads, Heads]
  const turned = (x: Heads): Heads => {
    if (numberOf(node, 'do_rotary', 0) === 0) return x
    const tables = rotaryTables(build, { cos, sin, positions, length, axes: (b, s, half) => [b, 1, s, half] })
    const interleaved = numberOf(node, 'rotary_interleaved', 0) === 1
    const shape = [batch, x.heads, length, size] as const
    return { ...x, value: rotate(build, x.value, { ...tables, shape, interleaved }) }
  }
  const window = numberOf(node, 'local_window_size', -1)
  const limit = numberOf(node, 'softcap', 0)
  const rotated = turned(key)
  const out = attend(build, {
    query: turned(query),
    key: rotated,
    value,
    scale: numberOf(node, 'scale', 0) || 1 / Math.sqrt(size),
    adjustments: [
      ...(limit > 0 ? [{ kind: 'cap', limit } as const] : []),
      ...(given(bias) ? [{ kind: 'add', value: bias } as const] : []),
      {
        kind: 'keep',
        condition: causalMask(build, [length, length], window > 0 ? window : undefined),
        otherwise: Number.NEGATIVE_INFINITY
      }
    ]
  })
  return [together(build, out), rotated.value, value.value]
}
