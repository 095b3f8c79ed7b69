import type { Cotangent, Rule, RuleContext, RuleTable } from '../rule.js'
import { constantInts, intAttribute, unsupportedForm } from '../rule.js'
import { range, resolveAxis } from '../shape.js'
import { shapeSize } from '../../tensor/schema.js'

/** Picking by index; the cotangent of what was picked twice is the sum. */
export const indexing: RuleTable = {
  Gather: (c) => [() => gather(c), undefined],
  GatherElements: ({ op, node, I: [x = '', indices = ''], dO }) => [
    () => {
      const axis = resolveAxis(intAttribute(node, 'axis', 0), op.shape(x).length)
      return op.scatterElementsAdd(op.zeros(op.emitter.typeOf(x)), indices, dO, axis)
    },
    undefined
  ],
  GatherND: gatherND
}

/** A constant run of neighbours is a piece; anything else is scattered along the axis moved to the front. */
function gather(c: RuleContext): Cotangent {
  const {
    op,
    node,
    I: [x = '', indices = ''],
    dO
  } = c
  const { type, shape } = op.emitter.typeOf(x)
  const axis = resolveAxis(intAttribute(node, 'axis', 0), shape.length)
  const picked = op.shape(indices)
  const count = shapeSize(picked)
  const start = runStart(c, shape[axis] ?? 0)
  if (start !== undefined) return { axis, start, value: op.reshape(dO, shape.with(axis, count)) }

  const toFront = [...range(picked.length).map((i) => axis + i), ...range(axis)]
  const rest = range(op.shape(dO).length).slice(axis + picked.length)
  const others = shape.filter((_, index) => index !== axis)
  const updates = op.reshape(op.transpose(dO, [...toFront, ...rest]), [count, ...others])
  const zeros = op.zeros({ type, shape: [shape[axis] ?? 0, ...others] })
  const scattered = op.scatterNDAdd(zeros, op.reshape(indices, [count, 1]), updates)
  return op.transpose(scattered, [...range(axis).map((i) => i + 1), 0, ...range(shape.length).slice(axis + 1)])
}

/** First index of a constant, ascending, gapless run; undefined for anything else. */
function runStart(c: RuleContext, extent: number): number | undefined {
  const [, indices = ''] = c.I
  if (c.op.emitter.initializerOf(indices) === undefined) return undefined
  const list = constantInts(c, indices).map((index) => resolveAxis(index, extent))
  const [start = 0] = list
  return list.every((index, i) => index === start + i) ? start : undefined
}

function gatherND(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = '', indices = ''],
    dO
  } = c
  if (intAttribute(node, 'batch_dims', 0) !== 0) throw unsupportedForm(c, 'batch_dims other than 0')
  return [() => op.scatterNDAdd(op.zeros(op.emitter.typeOf(x)), indices, dO), undefined]
}
