import type { Ops } from '../ops.js'
import type { RuleContext, RuleTable } from '../rule.js'
import { constantInts, intAttribute, intsAttribute, shared } from '../rule.js'
import { range, resolveAxis } from '../shape.js'

/** Reductions over axes given by attribute (old opsets) or by a constant input (new ones). */
export const reduction: RuleTable = {
  ReduceSum: (c) => [() => spread(c, c.dO), undefined],
  ReduceMean: (c) => [() => spread(c, c.op.scale(c.dO, 1 / reducedCount(c))), undefined],
  ReduceSumSquare: (c) => [() => c.op.mul(kept(c, c.dO), c.op.scale(c.I[0] ?? '', 2)), undefined],
  ReduceL2: (c) => [() => c.op.mul(kept(c, c.op.div(c.dO, c.O[0] ?? '')), c.I[0] ?? ''), undefined],
  ReduceMax: (c) => [() => extremum(c), undefined],
  ReduceMin: (c) => [() => extremum(c), undefined],
  Softmax: ({ op, node, O: [y = ''], dO }) => [
    () => op.mul(y, op.sub(dO, sumOver(op, op.mul(dO, y), intAttribute(node, 'axis', -1))))
  ],
  LogSoftmax: ({ op, node, O: [y = ''], dO }) => [
    () => op.sub(dO, op.mul(op.unary('Exp', y), sumOver(op, dO, intAttribute(node, 'axis', -1))))
  ]
}

const sumOver = (op: Ops, x: string, axis: number): string => op.reduceSum(x, [resolveAxis(axis, op.shape(x).length)])

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
