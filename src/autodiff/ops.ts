import { dataTypeOf } from '../onnx/graph/element-type.js'
import type { Attribute, ElementType } from '../onnx/graph/graph.js'
import { shapeSize, type Shape } from '../tensor/schema.js'
import type { Emitter, TensorType } from './emit.js'
import { broadcastShape, equalShapes, range } from './shape.js'

const int = (value: number): Attribute => ({ type: 'int', value })
const ints = (value: readonly number[]): Attribute => ({ type: 'ints', value })

type Binary = (a: string, b: string) => string

export interface GemmOptions {
  readonly transA?: boolean
  readonly transB?: boolean
  readonly alpha?: number
}

/** The standard ONNX ops that derivatives are written in. Every method appends at most a few nodes. */
export interface Ops extends Record<'add' | 'sub' | 'mul' | 'div' | 'pow' | 'max', Binary> {
  readonly emitter: Emitter
  /** One node of an op that has no method of its own here. */
  node(op: string, inputs: readonly string[], output: TensorType, attributes?: Record<string, Attribute>): string
  shape(x: string): Shape
  type(x: string): ElementType
  /** A constant of the same element type as `like`. */
  scalar(value: number, like: string): string
  /** x * factor; factor 1 adds no node. */
  scale(x: string, factor: number): string
  zeros(like: TensorType): string
  unary(op: UnaryOp, x: string): string
  /** Equal, Less, Greater, ...: broadcast, bool. */
  compare(op: 'Equal' | 'Less' | 'Greater' | 'LessOrEqual' | 'GreaterOrEqual' | 'And', a: string, b: string): string
  where(condition: string, a: string, b: string): string
  cast(x: string, type: ElementType): string
  /** Over `axes`, kept as 1. */
  reduceSum(x: string, axes: readonly number[]): string
  reduceMax(x: string, axes: readonly number[]): string
  softmax(x: string, axis: number): string
  /** int64, the axis kept as 1. */
  argMax(x: string, axis: number): string
  reshape(x: string, shape: Shape): string
  transpose(x: string, permutation: readonly number[]): string
  expand(x: string, shape: Shape): string
  concat(xs: readonly string[], axis: number): string
  split(x: string, sizes: readonly number[], axis: number): string[]
  slice(x: string, axis: number, start: number, end: number): string
  /** Zeros before and after along one axis. */
  pad(x: string, axis: number, before: number, after: number): string
  gather(x: string, indices: string, axis: number): string
  gatherElements(x: string, indices: string, axis: number): string
  scatterElementsAdd(x: string, indices: string, updates: string, axis: number): string
  scatterNDAdd(x: string, indices: string, updates: string): string
  matmul: Binary
  /** alpha * op(a) op(b), both of rank 2. */
  gemm(a: string, b: string, options?: GemmOptions): string
}

export type UnaryOp =
  | 'Neg'
  | 'Abs'
  | 'Sign'
  | 'Exp'
  | 'Log'
  | 'Sqrt'
  | 'Reciprocal'
  | 'Sin'
  | 'Cos'
  | 'Tanh'
  | 'Sigmoid'
  | 'Erf'
  | 'Not'

/** Writes shapes and types so that rules need not. */
export function createOps(emitter: Emitter): Ops {
  const shape = (x: string): Shape => emitter.typeOf(x).shape
  const type = (x: string): ElementType => emitter.typeOf(x).type
  const one = (op: string, inputs: readonly string[], output: TensorType, attributes = {}): string =>
    emitter.emit({ op, inputs, outputs: [output], attributes })[0] ?? ''
  const binary =
    (op: string): Binary =>
    (a, b) =>
      one(op, [a, b], { type: type(a), shape: broadcastShape(shape(a), shape(b)) })
  const scalar = (value: number, like: string): string => emitter.scalar(value, type(like))
  const mul = binary('Mul')

  return {
    emitter,
    node: one,
    shape,
    type,
    scalar,
    add: binary('Add'),
    sub: binary('Sub'),
    mul,
    div: binary('Div'),
    pow: binary('Pow'),
    max: binary('Max'),
    scale: (x, factor) => (factor === 1 ? x : mul(x, scalar(factor, x))),
    unary: (op, x) => one(op, [x], emitter.typeOf(x)),
    compare: (op, a, b) => one(op, [a, b], { type: 'bool', shape: broadcastShape(shape(a), shape(b)) }),
    where: (condition, a, b) =>
      one('Where', [condition, a, b], {
        type: type(a),
        shape: broadcastShape(shape(condition), broadcastShape(shape(a), shape(b)))
      }),
    cast: (x, to) =>
      type(x) === to ? x : one('Cast', [x], { type: to, shape: shape(x) }, { to: int(dataTypeOf(to)) }),
    zeros: (like) => {
      const zero = emitter.scalar(0, like.type)
      return like.shape.length === 0 ? zero : one('Expand', [zero, emitter.ints(like.shape)], like)
    },
    softmax: (x, axis) => one('Softmax', [x], emitter.typeOf(x), { axis: int(axis) }),
    argMax: (x, axis) => one('ArgMax', [x], { type: 'int64', shape: shape(x).with(axis, 1) }, { axis: int(axis) }),
    ...movement(emitter, one),
    ...indexing(emitter, one),
    ...contraction(emitter, one)
  }
}

type One = (op: string, inputs: readonly string[], output: TensorType, attributes?: Record<string, Attribute>) => string

function movement(emitter: Emitter, one: One) {
  const shapeOf = (x: string): Shape => emitter.typeOf(x).shape
  /** A reshape of a reshape is one reshape of the first's input. */
  const reshape = (x: string, shape: Shape): string => {
    const producer = emitter.producerOf(x)
    const source = producer?.op === 'Reshape' ? (producer.inputs[0] ?? x) : x
    if (equalShapes(shapeOf(source), shape)) return source
    return one('Reshape', [source, emitter.ints(shape)], { type: emitter.typeOf(x).type, shape })
  }
  const reduce =
    (op: 'ReduceSum' | 'ReduceMax') =>
    (x: string, axes: readonly number[]): string => {
      const from = emitter.typeOf(x)
      const shape = from.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
      if (axes.every((axis) => from.shape[axis] === 1)) return x
      const byInput = op === 'ReduceSum' || emitter.opset >= 18
      const inputs = byInput ? [x, emitter.ints(axes)] : [x]
      return one(op, inputs, { type: from.type, shape }, byInput ? {} : { axes: ints(axes) })
    }

  return {
    reshape,
    reduceSum: reduce('ReduceSum'),
    reduceMax: reduce('ReduceMax'),
    /** A transpose of a transpose is one transpose of the first's input: a weight or a key is never copied twice. */
    transpose(x: string, permutation: readonly number[]): string {
      const producer = emitter.producerOf(x)
      const first = producer?.op === 'Transpose' ? producer.attributes.perm : undefined
      const inner = first?.type === 'ints' ? first.value : undefined
      const source = inner === undefined ? x : (producer?.inputs[0] ?? x)
      const perm = permutation.map((axis) => inner?.[axis] ?? axis)
      if (perm.every((axis, index) => axis === index)) return source
      const { type, shape } = emitter.typeOf(source)
      return one('Transpose', [source], { type, shape: perm.map((axis) => shape[axis] ?? 1) }, { perm: ints(perm) })
    },
    expand: (x: string, shape: Shape): string =>
      equalShapes(shapeOf(x), shape)
        ? x
        : one('Expand', [x, emitter.ints(shape)], { type: emitter.typeOf(x).type, shape }),
    concat(xs: readonly string[], axis: number): string {
      const [first = '', ...rest] = xs
      if (rest.length === 0) return first
      const { type, shape } = emitter.typeOf(first)
      const extent = xs.reduce((sum, x) => sum + (shapeOf(x)[axis] ?? 0), 0)
      return one('Concat', xs, { type, shape: shape.with(axis, extent) }, { axis: int(axis) })
    },
    split(x: string, sizes: readonly number[], axis: number): string[] {
      const { type, shape } = emitter.typeOf(x)
      const outputs = sizes.map((size) => ({ type, shape: shape.with(axis, size) }))
      const attributes = { axis: int(axis) }
      return emitter.emit({ op: 'Split', inputs: [x, emitter.ints(sizes)], outputs, attributes })
    },
    slice(x: string, axis: number, start: number, end: number): string {
      const { type, shape } = emitter.typeOf(x)
      if (start === 0 && end === shape[axis]) return x
      const bounds = [[start], [end], [axis]].map((list) => emitter.ints(list))
      return one('Slice', [x, ...bounds], { type, shape: shape.with(axis, end - start) })
    },
    pad(x: string, axis: number, before: number, after: number): string {
      if (before === 0 && after === 0) return x
      const { type, shape } = emitter.typeOf(x)
      const pads = [before, after].flatMap((amount) => shape.map((_, index) => (index === axis ? amount : 0)))
      const padded = shape.with(axis, before + (shape[axis] ?? 0) + after)
      return one('Pad', [x, emitter.ints(pads)], { type, shape: padded })
    }
  }
}

function indexing(emitter: Emitter, one: One) {
  const add: Record<string, Attribute> = { reduction: { type: 'string', value: 'add' } }
  return {
    gather(x: string, indices: string, axis: number): string {
      const { type, shape } = emitter.typeOf(x)
      const picked = emitter.typeOf(indices).shape
      const result = [...shape.slice(0, axis), ...picked, ...shape.slice(axis + 1)]
      return one('Gather', [x, indices], { type, shape: result }, { axis: int(axis) })
    },
    gatherElements: (x: string, indices: string, axis: number): string =>
      one(
        'GatherElements',
        [x, indices],
        { type: emitter.typeOf(x).type, shape: emitter.typeOf(indices).shape },
        { axis: int(axis) }
      ),
    scatterElementsAdd: (x: string, indices: string, updates: string, axis: number): string =>
      one('ScatterElements', [x, indices, updates], emitter.typeOf(x), { ...add, axis: int(axis) }),
    scatterNDAdd: (x: string, indices: string, updates: string): string =>
      one('ScatterND', [x, indices, updates], emitter.typeOf(x), add)
  }
}

function contraction(emitter: Emitter, one: One) {
  return {
    matmul(a: string, b: string): string {
      const { type, shape } = emitter.typeOf(a)
      const other = emitter.typeOf(b).shape
      const batch = broadcastShape(shape.slice(0, -2), other.slice(0, -2))
      return one('MatMul', [a, b], { type, shape: [...batch, shape.at(-2) ?? 1, other.at(-1) ?? 1] })
    },
    gemm(a: string, b: string, { transA = false, transB = false, alpha = 1 }: GemmOptions = {}): string {
      const rows = emitter.typeOf(a).shape[transA ? 1 : 0] ?? 1
      const columns = emitter.typeOf(b).shape[transB ? 0 : 1] ?? 1
      const attributes = {
        ...(transA && { transA: int(1) }),
        ...(transB && { transB: int(1) }),
        ...(alpha !== 1 && { alpha: { type: 'float' as const, value: alpha } })
      }
      return one('Gemm', [a, b], { type: emitter.typeOf(a).type, shape: [rows, columns] }, attributes)
    }
  }
}

/** [rows, columns] view of a tensor whose last axis is the columns. */
export function flattenRows(op: Ops, x: string): string {
  const shape = op.shape(x)
  const columns = shape.at(-1) ?? 1
  return op.reshape(x, [shapeSize(shape) / Math.max(1, columns), columns])
}

/** Swaps the last two axes. */
export function transposeLast(op: Ops, x: string): string {
  const rank = op.shape(x).length
  return op.transpose(x, [...range(rank - 2), rank - 1, rank - 2])
}
