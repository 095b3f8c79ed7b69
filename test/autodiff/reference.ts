/** Forward definitions of the ONNX ops in double precision, written for clarity: what gradients are checked against. */

export interface NDArray {
  readonly shape: readonly number[]
  readonly data: readonly number[]
}

export const nd = (shape: readonly number[], data: readonly number[]): NDArray => ({ shape, data })

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1)

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

/** Both walk the axes without an array in between: central differences call them by the million. */
function indexOf(flat: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length)
  let rest = flat
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1
    index[axis] = rest % extent
    rest = Math.floor(rest / extent)
  }
  return index
}

/** Element at an index, whose surplus leading axes and axes of extent 1 are broadcast. */
export function at(x: NDArray, index: readonly number[]): number {
  const surplus = index.length - x.shape.length
  let flat = 0
  for (let axis = 0; axis < x.shape.length; axis++) {
    const extent = x.shape[axis] ?? 1
    flat = flat * extent + (extent === 1 ? 0 : (index[axis + surplus] ?? 0))
  }
  return x.data[flat] as number
}

export const build = (shape: readonly number[], f: (index: number[]) => number): NDArray =>
  nd(
    shape,
    range(sizeOf(shape)).map((flat) => f(indexOf(flat, shape)))
  )

export const map = (x: NDArray, f: (value: number) => number): NDArray => nd(x.shape, x.data.map(f))

export function broadcast(xs: readonly NDArray[], f: (...values: number[]) => number): NDArray {
  const rank = Math.max(...xs.map((x) => x.shape.length))
  const shape = range(rank).map((axis) => Math.max(...xs.map((x) => x.shape[axis - rank + x.shape.length] ?? 1)))
  return build(shape, (index) => f(...xs.map((x) => at(x, index))))
}

/** Folds the values of every group that shares its index outside `axes`. */
export function reduce(
  x: NDArray,
  axes: readonly number[],
  keepdims: boolean,
  f: (values: number[]) => number
): NDArray {
  const kept = x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
  const full = build(kept, (index) => {
    const inner = axes.map((axis) => x.shape[axis] ?? 1)
    return f(
      range(sizeOf(inner)).map((flat) => {
        const along = indexOf(flat, inner)
        return at(
          x,
          index.map((i, axis) => (axes.includes(axis) ? (along[axes.indexOf(axis)] ?? 0) : i))
        )
      })
    )
  })
  return keepdims
    ? full
    : nd(
        x.shape.filter((_, axis) => !axes.includes(axis)),
        full.data
      )
}

export const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
export const mean = (values: readonly number[]): number => sum(values) / values.length

export function softmax(x: NDArray, axis: number): NDArray {
  const e = map(x, Math.exp)
  return broadcast([e, reduce(e, [axis], true, sum)], (a, total) => a / total)
}

/** y = (x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on. */
export function layerNorm(x: NDArray, scale: NDArray, bias: NDArray, axis: number, epsilon: number): NDArray {
  const axes = range(x.shape.length).slice(axis)
  const centred = broadcast([x, reduce(x, axes, true, mean)], (a, m) => a - m)
  const variance = reduce(centred, axes, true, (d) => mean(d.map((v) => v * v)))
  return broadcast([centred, variance, scale, bias], (d, v, s, b) => (d / Math.sqrt(v + epsilon)) * s + b)
}

export function rmsNorm(x: NDArray, scale: NDArray, axis: number, epsilon: number): NDArray {
  const square = reduce(x, range(x.shape.length).slice(axis), true, (v) => mean(v.map((a) => a * a)))
  return broadcast([x, square, scale], (a, q, s) => (a / Math.sqrt(q + epsilon)) * s)
}

export const transpose = (x: NDArray, perm: readonly number[]): NDArray =>
  build(
    perm.map((axis) => x.shape[axis] ?? 1),
    (index) =>
      at(
        x,
        perm.map((_, axis) => index[perm.indexOf(axis)] ?? 0)
      )
  )

export function matmul(a: NDArray, b: NDArray): NDArray {
  if (a.shape.length === 1) {
    const y = matmul(nd([1, ...a.shape], a.data), b)
    return nd(y.shape.toSpliced(b.shape.length === 1 ? 0 : -2, 1), y.data)
  }
  if (b.shape.length === 1) {
    const y = matmul(a, nd([...b.shape, 1], b.data))
    return nd(y.shape.slice(0, -1), y.data)
  }
  const batch = broadcast([nd(a.shape.slice(0, -2), []), nd(b.shape.slice(0, -2), [])], () => 0).shape
  const [rows, inner, columns] = [a.shape.at(-2) ?? 1, a.shape.at(-1) ?? 1, b.shape.at(-1) ?? 1]
  return build([...batch, rows, columns], (index) => {
    const [i = 0, j = 0] = index.slice(-2)
    const outer = index.slice(0, -2)
    return sum(range(inner).map((k) => at(a, [...outer, i, k]) * at(b, [...outer, k, j])))
  })
}

export const slice = (x: NDArray, starts: readonly number[], ends: readonly number[]): NDArray =>
  build(
    starts.map((start, axis) => (ends[axis] ?? start) - start),
    (index) =>
      at(
        x,
        index.map((i, axis) => i + (starts[axis] ?? 0))
      )
  )

export function concat(xs: readonly NDArray[], axis: number): NDArray {
  const first = xs[0] as NDArray
  const extents = xs.map((x) => x.shape[axis] ?? 0)
  return build(first.shape.with(axis, sum(extents)), (index) => {
    let [which, offset] = [0, index[axis] ?? 0]
    while (offset >= (extents[which] ?? 0)) offset -= extents[which++] ?? 0
    return at(xs[which] as NDArray, index.with(axis, offset))
  })
}

export function gather(x: NDArray, indices: NDArray, axis: number): NDArray {
  const rank = indices.shape.length
  return build([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], (index) => {
    const chosen = at(indices, index.slice(axis, axis + rank))
    const extent = x.shape[axis] ?? 1
    return at(x, [...index.slice(0, axis), chosen < 0 ? chosen + extent : chosen, ...index.slice(axis + rank)])
  })
}

export interface ConvGeometry {
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  /** top, left, bottom, right */
  readonly pads: readonly [number, number, number, number]
  readonly groups?: number
}

/** What lies under each window of [batch, channels, height, width], folded into one number. */
export function pool2d(
  x: NDArray,
  [kh, kw]: readonly [number, number],
  { strides, dilations, pads }: ConvGeometry,
  f: (inside: number[]) => number
): NDArray {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape
  const rows = Math.floor((height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) / strides[0]) + 1
  const columns = Math.floor((width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) / strides[1]) + 1
  return build([batch, channels, rows, columns], ([n = 0, c = 0, i = 0, j = 0]) => {
    const window = range(kh).flatMap((a) =>
      range(kw).map((b) => [i * strides[0] + a * dilations[0] - pads[0], j * strides[1] + b * dilations[1] - pads[1]])
    )
    const inside = window.filter(([r = 0, k = 0]) => r >= 0 && r < height && k >= 0 && k < width)
    return f(inside.map(([r = 0, k = 0]) => at(x, [n, c, r, k])))
  })
}

export function conv2d(
  x: NDArray,
  w: NDArray,
  bias: NDArray,
  { strides, dilations, pads, groups = 1 }: ConvGeometry
): NDArray {
  const [batch = 1, , height = 1, width = 1] = x.shape
  const [filters = 1, channels = 1, kh = 1, kw = 1] = w.shape
  const rows = Math.floor((height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) / strides[0]) + 1
  const columns = Math.floor((width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) / strides[1]) + 1
  return build([batch, filters, rows, columns], ([n = 0, f = 0, i = 0, j = 0]) => {
    let total = bias.data[f] ?? 0
    for (let c = 0; c < channels; c++)
      for (let a = 0; a < kh; a++)
        for (let b = 0; b < kw; b++) {
          const [row, column] = [
            i * strides[0] + a * dilations[0] - pads[0],
            j * strides[1] + b * dilations[1] - pads[1]
          ]
          const inside = row >= 0 && row < height && column >= 0 && column < width
          const channel = Math.floor(f / (filters / groups)) * channels + c
          if (inside) total += at(x, [n, channel, row, column]) * at(w, [f, c, a, b])
        }
    return total
  })
}

/** Abramowitz and Stegun 7.1.5, the Maclaurin series: exact to double precision for |x| < 3. */
export function erf(x: number): number {
  let term = x
  let total = x
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n
    total += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * total
}
