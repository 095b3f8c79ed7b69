import { floatValues, intValues } from '../../../../src/onnx/graph/constant.js'
import type { Graph, Initializer, Node } from '../../../../src/onnx/graph/graph.js'
import { erf } from '../../../autodiff/reference.js'

/** A tensor in double precision; whole numbers and truth values are doubles too, `whole` tells division. */
export interface Tensor {
  readonly shape: readonly number[]
  readonly data: Float64Array
  readonly whole: boolean
}

type Kernel = (
  inputs: readonly Tensor[],
  node: Node,
  raw: readonly (Tensor | undefined)[]
) => Tensor | readonly Tensor[]

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1)
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

const tensor = (shape: readonly number[], data: Float64Array, whole = false): Tensor => ({ shape, data, whole })

const stridesOf = (shape: readonly number[]): number[] => shape.map((_, axis) => sizeOf(shape.slice(axis + 1)))

/** For every element of `shape` in order, the one at the offset that a stride for each axis gives. */
function gatherBy(x: Tensor, shape: readonly number[], strides: readonly number[], start = 0): Tensor {
  const data = new Float64Array(sizeOf(shape))
  const index = shape.map(() => 0)
  let offset = start
  for (let i = 0; i < data.length; i++) {
    data[i] = x.data[offset] as number
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      offset += strides[axis] as number
      if (++(index[axis] as number) < (shape[axis] as number)) break
      offset -= (strides[axis] as number) * (shape[axis] as number)
      index[axis] = 0
    }
  }
  return tensor(shape, data, x.whole)
}

function broadcastShape(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length))
  return range(rank).map((axis) =>
    shapes.reduce((dim, shape) => {
      const own = shape[axis - rank + shape.length] ?? 1
      return own === 1 ? dim : own
    }, 1)
  )
}

function expand(x: Tensor, shape: readonly number[]): Tensor {
  if (x.shape.length === shape.length && x.shape.every((dim, axis) => dim === shape[axis])) return x
  const own = stridesOf(x.shape)
  const lead = shape.length - x.shape.length
  return gatherBy(
    x,
    shape,
    shape.map((_, axis) => (axis < lead || x.shape[axis - lead] === 1 ? 0 : (own[axis - lead] as number)))
  )
}

/** What an operand that an operator does not have is read from. */
const NONE = new Float64Array()

/** Of up to three operands. */
const elementwise =
  (f: (a: number, b: number, c: number) => number, whole?: boolean): Kernel =>
  (inputs) => {
    const shape = broadcastShape(inputs.map((input) => input.shape))
    const [a = NONE, b = NONE, c = NONE] = inputs.map((input) => expand(input, shape).data)
    const data = new Float64Array(sizeOf(shape))
    for (let i = 0; i < data.length; i++) data[i] = f(a[i] as number, b[i] as number, c[i] as number)
    return tensor(shape, data, whole ?? inputs.every((input) => input.whole))
  }

const test = (f: (a: number, b: number) => boolean): Kernel => elementwise((a, b) => Number(f(a, b)), true)

const real = (f: (x: number) => number): Kernel => elementwise((x) => f(x), false)

const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis)

const numberOf = (node: Node, name: string, fallback: number): number =>
  Number(node.attributes[name]?.value ?? fallback)

const intsOf = (node: Node, name: string): readonly number[] | undefined =>
  node.attributes[name]?.value as readonly number[] | undefined

/** Moves the reduced axes last and folds each run of them. */
function reduce(x: Tensor, axes: readonly number[], keepdims: boolean, f: (values: Float64Array) => number): Tensor {
  const kept = range(x.shape.length).filter((axis) => !axes.includes(axis))
  const moved = transpose(x, [...kept, ...axes])
  const run = sizeOf(axes.map((axis) => x.shape[axis] as number))
  const data = Float64Array.from({ length: x.data.length / run }, (_, i) =>
    f(moved.data.subarray(i * run, (i + 1) * run))
  )
  const shape = keepdims
    ? x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
    : kept.map((axis) => x.shape[axis] as number)
  return tensor(shape, data)
}

function transpose(x: Tensor, perm: readonly number[]): Tensor {
  const strides = stridesOf(x.shape)
  return gatherBy(
    x,
    perm.map((axis) => x.shape[axis] as number),
    perm.map((axis) => strides[axis] as number)
  )
}

const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0)

const reduction =
  (f: (values: Float64Array) => number): Kernel =>
  ([x, given], node) => {
    const input = x as Tensor
    const rank = input.shape.length
    const axes = given === undefined ? intsOf(node, 'axes') : Array.from(given.data)
    const all = (axes ?? range(rank)).map((axis) => axisOf(axis, rank))
    return reduce(input, all, numberOf(node, 'keepdims', 1) === 1, f)
  }

function matmul(a: Tensor, b: Tensor): Tensor {
  const [rows, inner, columns] = [a.shape.at(-2) as number, a.shape.at(-1) as number, b.shape.at(-1) as number]
  const lead = broadcastShape([a.shape.slice(0, -2), b.shape.slice(0, -2)])
  const [left, right] = [expand(a, [...lead, rows, inner]).data, expand(b, [...lead, inner, columns]).data]
  const data = new Float64Array(sizeOf(lead) * rows * columns)
  for (let outer = 0; outer < sizeOf(lead); outer++)
    for (let i = 0; i < rows; i++)
      for (let k = 0; k < inner; k++) {
        const factor = left[(outer * rows + i) * inner + k] as number
        const [to, from] = [(outer * rows + i) * columns, (outer * inner + k) * columns]
        for (let j = 0; j < columns; j++) (data[to + j] as number) += factor * (right[from + j] as number)
      }
  return tensor([...lead, rows, columns], data)
}

/** Any number of spatial axes; windows in, sums out. */
function conv([x, w, bias]: readonly Tensor[], node: Node): Tensor {
  const [input, filter] = [x as Tensor, w as Tensor]
  const [batch = 1, , ...space] = input.shape
  const [filters = 1, perGroup = 1, ...kernel] = filter.shape
  const strides = intsOf(node, 'strides') ?? kernel.map(() => 1)
  const pads = intsOf(node, 'pads') ?? [...kernel, ...kernel].map(() => 0)
  const groups = numberOf(node, 'group', 1)
  const steps = space.map((extent, i) => {
    const padded = extent + (pads[i] as number) + (pads[i + space.length] as number)
    return Math.floor((padded - (kernel[i] as number)) / (strides[i] as number)) + 1
  })
  const xStrides = stridesOf(input.shape)
  const [window, places] = [sizeOf(kernel), sizeOf(steps)]
  const position = (flat: number, shape: readonly number[]): number[] =>
    stridesOf(shape).map((stride, axis) => Math.floor(flat / stride) % (shape[axis] as number))
  /** Offset of every element under every window, undefined in the padding. */
  const taps = range(places).map((place) =>
    range(window).map((element) => {
      const at = position(place, steps).map(
        (step, i) => step * (strides[i] as number) + (position(element, kernel)[i] as number) - (pads[i] as number)
      )
      const inside = at.every((i, axis) => i >= 0 && i < (space[axis] as number))
      return inside ? at.reduce((total, i, axis) => total + i * (xStrides[axis + 2] as number), 0) : undefined
    })
  )
  const data = new Float64Array(batch * filters * places)
  for (let n = 0; n < batch; n++)
    for (let f = 0; f < filters; f++)
      for (let place = 0; place < places; place++) {
        let total = bias?.data[f] ?? 0
        for (let c = 0; c < perGroup; c++) {
          const channel = Math.floor(f / (filters / groups)) * perGroup + c
          const start = n * (xStrides[0] as number) + channel * (xStrides[1] as number)
          for (let element = 0; element < window; element++) {
            const tap = taps[place]?.[element]
            if (tap !== undefined)
              total +=
                (input.data[start + tap] as number) * (filter.data[(f * perGroup + c) * window + element] as number)
          }
        }
        data[(n * filters + f) * places + place] = total
      }
  return tensor([batch, filters, ...steps], data)
}

function softmax([x]: readonly Tensor[], node: Node): Tensor {
  const input = x as Tensor
  const axis = axisOf(numberOf(node, 'axis', -1), input.shape.length)
  if (axis !== input.shape.length - 1) throw new Error('softmax over the last axis alone')
  const run = input.shape[axis] as number
  const data = input.data.slice()
  for (let start = 0; start < data.length; start += run) {
    const row = data.subarray(start, start + run)
    const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
    for (let i = 0; i < run; i++) row[i] = Math.exp((row[i] as number) - largest)
    const total = sum(row)
    for (let i = 0; i < run; i++) row[i] = (row[i] as number) / total
  }
  return tensor(input.shape, data)
}

function layerNormalization([x, scale, bias]: readonly Tensor[], node: Node): Tensor {
  const input = x as Tensor
  const width = input.shape.at(-1) as number
  const epsilon = Number(node.attributes.epsilon?.value ?? 1e-5)
  const data = input.data.slice()
  for (let start = 0; start < data.length; start += width) {
    const row = data.subarray(start, start + width)
    const mean = sum(row) / width
    const deviation = Math.sqrt(row.reduce((total, v) => total + (v - mean) ** 2, 0) / width + epsilon)
    for (let i = 0; i < width; i++)
      row[i] = (((row[i] as number) - mean) / deviation) * (scale?.data[i] as number) + (bias?.data[i] ?? 0)
  }
  return tensor(input.shape, data)
}

function reshape(x: Tensor, wanted: readonly number[]): Tensor {
  const shape = wanted.map((dim, axis) => (dim === 0 ? (x.shape[axis] as number) : dim))
  const known = shape.filter((dim) => dim !== -1).reduce((a, b) => a * b, 1)
  return tensor(
    shape.map((dim) => (dim === -1 ? x.data.length / known : dim)),
    x.data,
    x.whole
  )
}

function sliceOf([x, starts, ends, axes, steps]: readonly Tensor[]): Tensor {
  const input = x as Tensor
  const strides = stridesOf(input.shape)
  const shape = [...input.shape]
  let offset = 0
  for (const [i, from] of Array.from((starts as Tensor).data).entries()) {
    const axis = axisOf(axes?.data[i] ?? i, input.shape.length)
    const [extent, step] = [input.shape[axis] as number, steps?.data[i] ?? 1]
    if (step < 0) throw new Error('slices go forward')
    const place = (bound: number): number => Math.min(extent, Math.max(0, bound < 0 ? bound + extent : bound))
    const [start, end] = [place(from), place((ends as Tensor).data[i] as number)]
    shape[axis] = Math.max(0, Math.ceil((end - start) / step))
    offset += start * (strides[axis] as number)
    strides[axis] = (strides[axis] as number) * step
  }
  return gatherBy(input, shape, strides, offset)
}

function concatOf(inputs: readonly Tensor[], node: Node): Tensor {
  const [first] = inputs as readonly [Tensor]
  const axis = axisOf(numberOf(node, 'axis', 0), first.shape.length)
  const rows = sizeOf(first.shape.slice(0, axis))
  const lengths = inputs.map((input) => input.data.length / rows)
  const data = new Float64Array(lengths.reduce((a, b) => a + b, 0) * rows)
  let at = 0
  for (let row = 0; row < rows; row++)
    for (const [i, input] of inputs.entries()) {
      const length = lengths[i] as number
      data.set(input.data.subarray(row * length, (row + 1) * length), at)
      at += length
    }
  const extent = inputs.reduce((total, input) => total + (input.shape[axis] as number), 0)
  return tensor(first.shape.with(axis, extent), data, first.whole)
}

function splitOf([x, sizes]: readonly Tensor[], node: Node): Tensor[] {
  const input = x as Tensor
  const axis = axisOf(numberOf(node, 'axis', 0), input.shape.length)
  const strides = stridesOf(input.shape)
  let start = 0
  return Array.from((sizes as Tensor).data, (size) => {
    const part = gatherBy(input, input.shape.with(axis, size), strides, start * (strides[axis] as number))
    start += size
    return part
  })
}

function gatherOf([x, indices]: readonly Tensor[], node: Node): Tensor {
  const [input, picked] = [x as Tensor, indices as Tensor]
  const axis = axisOf(numberOf(node, 'axis', 0), input.shape.length)
  const [extent, inner] = [input.shape[axis] as number, sizeOf(input.shape.slice(axis + 1))]
  const outer = sizeOf(input.shape.slice(0, axis))
  const data = new Float64Array(outer * picked.data.length * inner)
  let at = 0
  for (let o = 0; o < outer; o++)
    for (const index of picked.data) {
      const start = (o * extent + axisOf(index, extent)) * inner
      data.set(input.data.subarray(start, start + inner), at)
      at += inner
    }
  return tensor([...input.shape.slice(0, axis), ...picked.shape, ...input.shape.slice(axis + 1)], data, input.whole)
}

function gatherND([x, indices]: readonly Tensor[]): Tensor {
  const [input, picked] = [x as Tensor, indices as Tensor]
  const depth = picked.shape.at(-1) as number
  const tail = input.shape.slice(depth)
  const [inner, strides] = [sizeOf(tail), stridesOf(input.shape)]
  const rows = picked.data.length / depth
  const data = new Float64Array(rows * inner)
  for (let row = 0; row < rows; row++) {
    const start = range(depth).reduce(
      (total, i) => total + (picked.data[row * depth + i] as number) * (strides[i] as number),
      0
    )
    data.set(input.data.subarray(start, start + inner), row * inner)
  }
  return tensor([...picked.shape.slice(0, -1), ...tail], data)
}

function cumSum([x, axisInput]: readonly Tensor[]): Tensor {
  const input = x as Tensor
  const axis = axisOf((axisInput as Tensor).data[0] as number, input.shape.length)
  const stride = stridesOf(input.shape)[axis] as number
  const data = input.data.slice()
  for (let i = 0; i < data.length; i++)
    if (Math.floor(i / stride) % (input.shape[axis] as number) > 0) (data[i] as number) += data[i - stride] as number
  return tensor(input.shape, data, input.whole)
}

function unsqueezed(x: Tensor, axes: readonly number[]): Tensor {
  const rank = x.shape.length + axes.length
  const places = axes.map((axis) => axisOf(axis, rank))
  const rest = [...x.shape]
  return tensor(
    range(rank).map((axis) => (places.includes(axis) ? 1 : (rest.shift() as number))),
    x.data,
    x.whole
  )
}

const vector = (values: readonly number[]): Tensor => tensor([values.length], Float64Array.from(values), true)

const KERNELS: Readonly<Record<string, Kernel>> = {
  Abs: elementwise((x) => Math.abs(x)),
  Add: elementwise((a, b) => a + b),
  And: test((a, b) => a !== 0 && b !== 0),
  ArgMax: ([x], node) => ({
    ...reduce(
      x as Tensor,
      [axisOf(numberOf(node, 'axis', 0), (x as Tensor).shape.length)],
      numberOf(node, 'keepdims', 1) === 1,
      (row) => row.indexOf(row.reduce((a, b) => Math.max(a, b)))
    ),
    whole: true
  }),
  Cast: ([x], node) => {
    const input = x as Tensor
    if (numberOf(node, 'to', 1) === 9)
      return tensor(
        input.shape,
        input.data.map((v) => Number(v !== 0)),
        true
      )
    return numberOf(node, 'to', 1) === 7
      ? tensor(
          input.shape,
          input.data.map((v) => (Number.isFinite(v) ? Math.trunc(v) : 0)),
          true
        )
      : tensor(input.shape, input.data)
  },
  Concat: concatOf,
  Conv: conv,
  Cos: real(Math.cos),
  CumSum: cumSum,
  Div: (inputs, node, raw) =>
    elementwise((a, b) => (inputs.every(({ whole }) => whole) ? Math.trunc(a / b) : a / b))(inputs, node, raw),
  Equal: test((a, b) => a === b),
  Erf: real(erf),
  Exp: real(Math.exp),
  Expand: ([x, shape]) =>
    expand(x as Tensor, broadcastShape([(x as Tensor).shape, Array.from((shape as Tensor).data)])),
  Gather: gatherOf,
  GatherND: gatherND,
  Gemm: ([a, b, c], node) => {
    if (numberOf(node, 'transB', 0) !== 1 || numberOf(node, 'transA', 0) !== 0)
      throw new Error('Gemm as exporters write it')
    const product = matmul(a as Tensor, transpose(b as Tensor, [1, 0]))
    return c === undefined ? product : elementwise((x, y) => x + y)([product, c], node, [])
  },
  GlobalAveragePool: ([x]) => {
    const input = x as Tensor
    return reduce(input, range(input.shape.length).slice(2), true, (values) => sum(values) / values.length)
  },
  Greater: test((a, b) => a > b),
  GreaterOrEqual: test((a, b) => a >= b),
  Identity: ([x]) => x as Tensor,
  LayerNormalization: layerNormalization,
  Less: test((a, b) => a < b),
  LessOrEqual: test((a, b) => a <= b),
  Log: real(Math.log),
  MatMul: ([a, b]) => matmul(a as Tensor, b as Tensor),
  Min: elementwise((a, b) => Math.min(a, b)),
  Mul: elementwise((a, b) => a * b),
  Neg: elementwise((x) => -x),
  Not: elementwise((x) => Number(x === 0), true),
  Pow: elementwise((a, b) => a ** b, false),
  Range: ([from, to, step]) => {
    const [start = 0, end = 0, by = 1] = [from, to, step].map((value) => value?.data[0])
    return vector(range(Math.ceil((end - start) / by)).map((i) => start + i * by))
  },
  Reciprocal: real((x) => 1 / x),
  ReduceL2: reduction((values) => Math.sqrt(values.reduce((total, v) => total + v * v, 0))),
  ReduceMean: reduction((values) => sum(values) / values.length),
  Relu: real((x) => Math.max(0, x)),
  Reshape: ([x, shape]) => reshape(x as Tensor, Array.from((shape as Tensor).data)),
  Shape: ([x]) => vector((x as Tensor).shape),
  Sigmoid: real((x) => 1 / (1 + Math.exp(-x))),
  Sin: real(Math.sin),
  Slice: sliceOf,
  Softmax: softmax,
  Split: splitOf,
  Sqrt: real(Math.sqrt),
  Squeeze: ([x, axes]) => {
    const input = x as Tensor
    const gone = Array.from((axes as Tensor).data, (axis) => axisOf(axis, input.shape.length))
    return tensor(
      input.shape.filter((_, axis) => !gone.includes(axis)),
      input.data,
      input.whole
    )
  },
  Sub: elementwise((a, b) => a - b),
  Tanh: real(Math.tanh),
  Transpose: ([x], node) => transpose(x as Tensor, intsOf(node, 'perm') ?? []),
  Unsqueeze: ([x, axes]) => unsqueezed(x as Tensor, Array.from((axes as Tensor).data)),
  Where: (inputs, node, raw) => ({
    ...(elementwise((c, a, b) => (c !== 0 ? a : b), false)(inputs, node, raw) as Tensor),
    whole: inputs.slice(1).every(({ whole }) => whole)
  })
}

const constantOf = (initializer: Initializer): Tensor =>
  initializer.type === 'float32'
    ? tensor(initializer.shape, Float64Array.from(floatValues(initializer)))
    : tensor(initializer.shape, Float64Array.from(intValues(initializer)), true)

/**
 * Runs a graph in double precision, kernel by kernel as the ONNX specification describes them. Knows what the graphs of
 * this folder are made of and no more. `evaluate` recomputes what the changed initializers reach.
 */
export function createDoubleRuntime(graph: Graph, feeds: Readonly<Record<string, Tensor>>, output: string) {
  const base = new Map<string, Tensor>(Object.entries(feeds))
  for (const initializer of graph.initializers.values()) base.set(initializer.name, constantOf(initializer))
  const run = (node: Node, values: (name: string) => Tensor | undefined): readonly Tensor[] => {
    const kernel = KERNELS[node.op]
    if (kernel === undefined) throw new Error(`no kernel for ${node.op}`)
    const inputs = node.inputs.map((name) => (name === '' ? undefined : values(name)))
    const made = kernel(inputs as readonly Tensor[], node, inputs)
    return 'data' in made ? [made] : made
  }
  for (const node of graph.nodes)
    for (const [i, made] of run(node, (name) => base.get(name)).entries()) base.set(node.outputs[i] as string, made)

  const evaluate = (changed: ReadonlyMap<string, Tensor>): Tensor => {
    const values = new Map(changed)
    for (const node of graph.nodes) {
      if (!node.inputs.some((name) => values.has(name))) continue
      for (const [i, made] of run(node, (name) => values.get(name) ?? base.get(name)).entries())
        values.set(node.outputs[i] as string, made)
    }
    return values.get(output) ?? (base.get(output) as Tensor)
  }
  return { evaluate, valueOf: (name: string): Tensor => base.get(name) as Tensor }
}
