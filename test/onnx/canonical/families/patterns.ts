import { type Exporter, int, ints, real, TO } from './exporter.js'

/** What the exporters make of PyTorch's and Transformers' usual lines. */

/** x.shape[axis] as a scalar. */
export const dim = (e: Exporter, x: string, axis: number): string => e.op('Gather', [e.op('Shape', [x]), e.index(axis)])

export const unsqueeze = (e: Exporter, x: string, ...axes: number[]): string => e.op('Unsqueeze', [x, e.indices(axes)])

/** x.view(...): sizes are numbers, or scalars computed from another value's shape. */
export function view(e: Exporter, x: string, ...sizes: (number | string)[]): string {
  const parts = sizes.map((size) => (typeof size === 'number' ? e.indices([size]) : unsqueeze(e, size, 0)))
  return e.op('Reshape', [x, e.op('Concat', parts, { axis: int(0) })])
}

export const transpose = (e: Exporter, x: string, ...perm: number[]): string =>
  e.op('Transpose', [x], { perm: ints(...perm) })

/** x[..., start:end:step, ...] along one axis. */
export const slice = (e: Exporter, x: string, axis: number, [start, end, step = 1]: readonly number[]): string =>
  e.op('Slice', [x, e.indices([start ?? 0]), e.indices([end ?? 0]), e.indices([axis]), e.indices([step])])

export const concat = (e: Exporter, xs: readonly string[], axis: number): string =>
  e.op('Concat', xs, { axis: int(axis) })

export const toHeads = (e: Exporter, x: string, heads: number, size: number): string =>
  transpose(e, view(e, x, dim(e, x, 0), dim(e, x, 1), heads, size), 0, 2, 1, 3)

export const fromHeads = (e: Exporter, x: string, width: number): string =>
  view(e, transpose(e, x, 0, 2, 1, 3), dim(e, x, 0), dim(e, x, 2), width)

export interface AttendOptions {
  /** Scores are divided by it; 1 leaves them. */
  readonly divisor?: number
  /** Added to the scores. */
  readonly mask?: string | undefined
  /** Adjusts the scores before the mask. */
  readonly cap?: ((scores: string) => string) | undefined
}

/** softmax(q k^T / divisor + mask) v on [batch, heads, length, size]. */
export function attend(
  e: Exporter,
  q: string,
  k: string,
  v: string,
  { divisor = 1, mask, cap }: AttendOptions
): string {
  const products = e.op('MatMul', [q, transpose(e, k, 0, 1, 3, 2)])
  const scaled = divisor === 1 ? products : e.op('Div', [products, e.scalar(divisor)])
  const capped = cap === undefined ? scaled : cap(scaled)
  const masked = mask === undefined ? capped : e.op('Add', [capped, mask])
  return e.op('MatMul', [e.op('Softmax', [masked], { axis: int(-1) }), v])
}

export function layerNorm(e: Exporter, name: string, x: string, width: number, epsilon = 1e-5): string {
  return e.within(name, () =>
    e.op('LayerNormalization', [x, e.weight('weight', [width], 1), e.weight('bias', [width])], {
      axis: int(-1),
      epsilon: real(epsilon)
    })
  )
}

export interface RmsOptions {
  readonly epsilon?: number
  /** Gemma: weights are distances from 1. */
  readonly fromOne?: boolean
  /** Reciprocal of the root, as the dynamo exporter writes rsqrt; otherwise 1 / root. */
  readonly reciprocal?: boolean
}

/** weight * x * rsqrt(mean(x^2) + epsilon). */
export function rmsNorm(
  e: Exporter,
  name: string,
  x: string,
  width: number,
  { epsilon = 1e-6, fromOne = false, reciprocal = false }: RmsOptions = {}
): string {
  return e.within(name, () => {
    const square = e.op('Pow', [x, e.scalar(2)])
    const mean = e.op('ReduceMean', [square], { axes: ints(-1) })
    const root = e.op('Sqrt', [e.op('Add', [mean, e.scalar(epsilon)])])
    const inverse = reciprocal ? e.op('Reciprocal', [root]) : e.op('Div', [e.scalar(1), root])
    const normalised = e.op('Mul', [x, inverse])
    if (!fromOne) return e.op('Mul', [e.weight('weight', [width], 1), normalised])
    return e.op('Mul', [normalised, e.op('Add', [e.weight('weight', [width]), e.scalar(1)])])
  })
}

/** 0.5 x (1 + erf(x / sqrt 2)), taken apart. */
export function gelu(e: Exporter, x: string): string {
  const erf = e.op('Erf', [e.op('Div', [x, e.scalar(Math.SQRT2)])])
  return e.op('Mul', [e.op('Mul', [x, e.op('Add', [erf, e.scalar(1)])]), e.scalar(0.5)])
}

/** gelu_new: the tanh form, taken apart. */
export function geluTanh(e: Exporter, x: string): string {
  const cubic = e.op('Mul', [e.op('Pow', [x, e.scalar(3)]), e.scalar(0.044715)])
  const inner = e.op('Mul', [e.op('Add', [x, cubic]), e.scalar(Math.sqrt(2 / Math.PI))])
  return e.op('Mul', [e.op('Mul', [x, e.scalar(0.5)]), e.op('Add', [e.op('Tanh', [inner]), e.scalar(1)])])
}

export const quickGelu = (e: Exporter, x: string): string =>
  e.op('Mul', [x, e.op('Sigmoid', [e.op('Mul', [x, e.scalar(1.702)])])])

export const silu = (e: Exporter, x: string): string => e.op('Mul', [x, e.op('Sigmoid', [x])])

export const embedding = (e: Exporter, name: string, ids: string, rows: number, width: number): string =>
  e.within(name, () => e.op('Gather', [e.weight('weight', [rows, width]), ids]))

/** What float masks put where attention is not allowed. */
const LEAST = -3.4028234663852886e38

/** int64[batch, keys] -> float[batch, 1, 1, keys]: 0 or the least float. */
export function paddingMask(e: Exporter, mask: string): string {
  const wide = e.op('Cast', [unsqueeze(e, unsqueeze(e, mask, 1), 2)], { to: TO.float })
  return e.op('Mul', [e.op('Sub', [e.scalar(1), wide]), e.scalar(LEAST)])
}

export interface CausalOptions {
  /** Positions that a row sees, itself included. */
  readonly window?: number
}

/** float[batch, 1, queries, keys] from an attention mask: causal, within a window, and not on padding. */
export function causalMask(e: Exporter, ids: string, mask: string, { window }: CausalOptions = {}): string {
  const length = dim(e, ids, 1)
  const positions = e.op('Range', [e.index(0), length, e.index(1)])
  const [rows, columns] = [unsqueeze(e, positions, 1), unsqueeze(e, positions, 0)]
  const causal = e.op('LessOrEqual', [columns, rows])
  const near = (span: number): string => e.op('Greater', [columns, e.op('Sub', [rows, e.index(span)])])
  const allowed = window === undefined ? causal : e.op('And', [causal, near(window)])
  const padding = unsqueeze(e, e.op('Cast', [mask], { to: TO.bool }), 1, 2)
  const both = e.op('And', [unsqueeze(e, allowed, 0, 1), padding])
  return e.op('Where', [both, e.scalar(0), e.scalar(LEAST)])
}

export interface RotaryTables {
  readonly cos: string
  readonly sin: string
}

/** cos and sin [1, 1, length, size] computed in the graph from the inverse frequencies, as Transformers does. */
export function rotaryTables(e: Exporter, ids: string, size: number): RotaryTables {
  const frequencies = Array.from({ length: size / 2 }, (_, i) => 100 ** ((-2 * i) / size))
  const positions = e.op('Cast', [e.op('Range', [e.index(0), dim(e, ids, 1), e.index(1)])], { to: TO.float })
  const angles = e.op('MatMul', [unsqueeze(e, positions, 0, 2), e.floats(frequencies, [1, 1, size / 2])])
  const both = concat(e, [angles, angles], -1)
  return { cos: unsqueeze(e, e.op('Cos', [both]), 1), sin: unsqueeze(e, e.op('Sin', [both]), 1) }
}

/** x cos + rotate_half(x) sin on the first `rotated` of `size` features. */
export function rotary(e: Exporter, x: string, { cos, sin }: RotaryTables, size: number, rotated = size): string {
  const turning = rotated === size ? x : slice(e, x, -1, [0, rotated])
  const [low, high] = [slice(e, turning, -1, [0, rotated / 2]), slice(e, turning, -1, [rotated / 2, 2 ** 31])]
  const half = concat(e, [e.op('Neg', [high]), low], -1)
  const turned = e.op('Add', [e.op('Mul', [turning, cos]), e.op('Mul', [half, sin])])
  return rotated === size ? turned : concat(e, [turned, slice(e, x, -1, [rotated, 2 ** 31])], -1)
}

/** repeat_kv: [batch, groups, length, size] -> [batch, groups * times, length, size]. */
export function repeatHeads(e: Exporter, x: string, groups: number, times: number, size: number): string {
  const [batch, length] = [dim(e, x, 0), dim(e, x, 2)]
  const shape = [
    unsqueeze(e, batch, 0),
    e.indices([groups]),
    e.indices([times]),
    unsqueeze(e, length, 0),
    e.indices([size])
  ]
  const wide = e.op('Expand', [unsqueeze(e, x, 2), e.op('Concat', shape, { axis: int(0) })])
  return view(e, wide, batch, groups * times, length, size)
}

export const mean = (e: Exporter, x: string, axis: number): string =>
  e.op('ReduceMean', [x], { axes: ints(axis), keepdims: int(0) })

/** x[:, index] */
export const pick = (e: Exporter, x: string, index: number): string =>
  e.op('Gather', [x, e.index(index)], { axis: int(1) })
