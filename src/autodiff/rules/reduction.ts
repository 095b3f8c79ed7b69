import type { Ops } from '../ops.js'
import type { RuleContext, RuleTable } from '../rule.js'
import { constantInts, intAttribute, intsAttribute, shared } from '../rule.js'
import { equalShapes, range, resolveAxis } from '../shape.js'

/** Reductions over axes given by attribute (old opsets) or by a constant input (new ones). */
export const reduction: RuleTable = {
  ReduceSum: (c) => [() => spread(c, c.dO), undefined],
  ReduceMean: (c) => [() => spread(c, c.op.scale(c.dO, 1 / reducedCount(c))), undefined],
  ReduceSumSquare: (c) => [() => c.op.mul(kept(c, c.dO), c.op.scale(c.I[0] ?? '', 2)), undefined],
  ReduceL2: (c) => [() => c.op.mul(kept(c, c.op.div(c.dO, c.O[0] ?? '')), c.I[0] ?? ''), undefined],
  ReduceL1: (c) => [() => c.op.mul(kept(c, c.dO), c.op.unary('Sign', c.I[0] ?? '')), undefined],
  /** y = log(sum(exp(x))). */
  ReduceLogSumExp: (c) => [
    () => c.op.mul(kept(c, c.dO), c.op.unary('Exp', c.op.sub(c.I[0] ?? '', kept(c, c.O[0] ?? '')))),
    undefined
  ],
  ReduceMax: (c) => [() => extremum(c), undefined],
  ReduceMin: (c) => [() => extremum(c), undefined],
  Softmax: (c) => [() => softmax(c)],
  LogSoftmax: ({ op, node, O: [y = ''], dO }) => [
    () => op.sub(dO, op.mul(op.unary('Exp', y), sumOver(op, dO, intAttribute(node, 'axis', -1))))
  ]
}

const sumOver = (op: Ops, x: string, axis: number): string => op.reduceSum(x, [resolveAxis(axis, op.shape(x).length)])

/** dx = y (dO - sum(dO y)). */
function softmax(c: RuleContext): string {
  const {
    op,
    node,
    O: [y = ''],
    dO
  } = c
  const axis = resolveAxis(intAttribute(node, 'axis', -1), op.shape(y).length)
  return op.mul(y, op.sub(dO, attentionSum(c, axis) ?? op.reduceSum(op.mul(dO, y), [axis])))
}

/**
 * sum(dO y) where y [.., queries, keys] is read by the product out = y V alone: dO = dOut V^T, so the sum over keys is
 * the sum of dOut out over features, of which there are fewer (Dao et al. 2022, https://arxiv.org/abs/2205.14135, B.2).
 */
function attentionSum({ op, O: [y = ''], consumersOf, cotangentOf }: RuleContext, axis: number): string | undefined {
  const shape = op.shape(y)
  const [product, ...others] = consumersOf(y)
  const [out = ''] = product?.outputs ?? []
  if (product?.op !== 'MatMul' || product.inputs[0] !== y || product.inputs[1] === y || others.length > 0)
    return undefined
  const result = op.shape(out)
  const isSmaller = axis === shape.length - 1 && (result.at(-1) ?? 0) < (shape.at(-1) ?? 0)
  if (!isSmaller || !equalShapes(result.slice(0, -1), shape.slice(0, -1))) return undefined
  const dOut = cotangentOf(out)
  return dOut === undefined ? undefined : op.reduceSum(op.mul(dOut, out), [axis])
}

function reducedAxes(c: RuleContext): readonly number[] {
  const [x = '', axesInput = ''] = c.I
  const rank = c.op.shape(x).length
  const axes = axesInput === '' ? (intsAttribute(c.node, 'axes') ?? []) : constantInts(c, axesInput)
  if (axes.length > 0) return axes.map((axis) => resolveAxis(axis, rank))
  return intAttribute(c.node, 'noop_with_empty_axes', 0) === 0 ? range(rank) : []
}

const reducedCount = (c: RuleContext): number =>
  reducedAxes(c).reduce((count, axis) => count * (c.op.shape(c.I[0] ?? '')[axis] ?? 1), 1)

/** A reduced tensor with its reduced axes back as 1, whatever keepdims said. */
function kept(c: RuleContext, reduced: string): string {
  const axes = reducedAxes(c)
  return c.op.reshape(
    reduced,
    c.op.shape(c.I[0] ?? '').map((dim, axis) => (axes.includes(axis) ? 1 : dim))
  )
}

const spread = (c: RuleContext, reduced: string): string => c.op.expand(kept(c, reduced), c.op.shape(c.I[0] ?? ''))

/** Ties share the cotangent evenly, as torch.amax does. */
function extremum(c: RuleContext): string {
  const {
    op,
    I: [x = ''],
    O: [y = ''],
    dO
  } = c
  const wins = shared(() => op.cast(op.compare('Equal', x, kept(c, y)), op.type(x)))
  return op.mul(wins(), op.div(kept(c, dO), op.reduceSum(wins(), reducedAxes(c))))
}
