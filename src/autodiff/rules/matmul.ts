import { flattenRows, type Ops, transposeLast } from '../ops.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { floatAttribute, intAttribute, unsupportedForm } from '../rule.js'

/** Products. A frozen weight is read through Gemm's transpose flags: it is never copied in another layout. */
export const matmul: RuleTable = {
  MatMul: ({ op, I: [a = '', b = ''], dO }) =>
    op.shape(b).length === 2 && op.shape(a).length >= 2
      ? [
          () => rowsTimesTransposed(op, { a, b, dO }),
          () => op.gemm(flattenRows(op, a), flattenRows(op, dO), { transA: true })
        ]
      : batched(op, { a, b, dO, alpha: 1 }),
  Gemm: gemm,
  'com.microsoft.FusedMatMul': fusedMatMul
}

interface Product {
  readonly a: string
  readonly b: string
  readonly dO: string
  readonly alpha: number
}

/** dA = dO W^T for A of any rank, W [in, out]; where W is itself the transpose of V, dA = dO V. */
function rowsTimesTransposed(op: Ops, { a, b: weight, dO }: Omit<Product, 'alpha'>): string {
  const producer = op.emitter.producerOf(weight)
  const source = producer?.op === 'Transpose' ? (producer.inputs[0] ?? weight) : weight
  return op.reshape(op.gemm(flattenRows(op, dO), source, { transB: source === weight }), op.shape(a))
}

/** dA = alpha dO B^T, dB = alpha A^T dO over batch axes; a vector operand is a matrix of one row or column. */
function batched(op: Ops, { a, b, dO, alpha }: Product) {
  const left = op.shape(a).length === 1 ? op.reshape(a, [1, ...op.shape(a)]) : a
  const isVector = op.shape(b).length === 1
  const right = isVector ? op.reshape(b, [...op.shape(b), 1]) : b
  const gradient = () => {
    const shape = [...op.shape(dO)]
    if (isVector) shape.push(1)
    if (left !== a) shape.splice(-1, 0, 1)
    return op.reshape(dO, shape)
  }
  return [
    () => op.scale(op.matmul(gradient(), transposeLast(op, right)), alpha),
    () => {
      const dRight = op.scale(transposedProduct(op, left, gradient()), alpha)
      return isVector ? op.reshape(dRight, op.shape(dRight).slice(0, -1)) : dRight
    }
  ]
}

/** a^T b, or (b^T a)^T where that moves no more elements: one of its two transposes often merges with a neighbour. */
function transposedProduct(op: Ops, a: string, b: string): string {
  const extent = (x: string, axis: number): number => op.shape(x).at(axis) ?? 1
  const [rows, inner, columns] = [extent(a, -1), extent(a, -2), extent(b, -1)]
  return rows * inner < columns * (inner + rows)
    ? op.matmul(transposeLast(op, a), b)
    : transposeLast(op, op.matmul(transposeLast(op, b), a))
}

/** Y = alpha A' B' + beta C, where ' is an optional transpose. */
function gemm({ op, node, I: [a = '', b = ''], dO }: RuleContext) {
  const transA = intAttribute(node, 'transA', 0) !== 0
  const transB = intAttribute(node, 'transB', 0) !== 0
  const alpha = floatAttribute(node, 'alpha', 1)
  return [
    () =>
      transA ? op.gemm(b, dO, { transA: transB, transB: true, alpha }) : op.gemm(dO, b, { transB: !transB, alpha }),
    () =>
      transB ? op.gemm(dO, a, { transA: true, transB: transA, alpha }) : op.gemm(a, dO, { transA: !transA, alpha }),
    () => op.scale(dO, floatAttribute(node, 'beta', 1))
  ]
}

function fusedMatMul(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [a = '', b = ''],
    dO
  } = c
  if (intAttribute(node, 'transBatchA', 0) !== 0 || intAttribute(node, 'transBatchB', 0) !== 0)
    throw unsupportedForm(c, 'transposed batch axes')
  const flip = (value: string, attribute: string): string =>
    intAttribute(node, attribute, 0) === 0 ? value : transposeLast(op, value)
  const alpha = floatAttribute(node, 'alpha', 1)
  const [dA, dB] = batched(op, { a: flip(a, 'transA'), b: flip(b, 'transB'), dO, alpha })
  return [() => flip(dA?.() ?? dO, 'transA'), () => flip(dB?.() ?? dO, 'transB')]
}
