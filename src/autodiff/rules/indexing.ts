import type { Cotangent, Rule, RuleContext, RuleTable } from '../rule.js'
import { constantInts, intAttribute, stringAttribute, unsupportedForm } from '../rule.js'
import { range, resolveAxis } from '../shape.js'
import { type Shape, shapeSize } from '../../tensor/schema.js'

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
  GatherND: gatherND,
  ScatterElements: (c) => {
    const {
      op,
      node,
      I: [x = '', indices = '', updates = ''],
      dO
    } = c
    const axis = resolveAxis(intAttribute(node, 'axis', 0), op.shape(x).length)
    const zeros = (): string => op.zeros(op.emitter.typeOf(updates))
    const overwritten = (): string =>
      op.node('ScatterElements', [dO, indices, zeros()], op.emitter.typeOf(dO), { axis: { type: 'int', value: axis } })
    return [adds(c) ? () => dO : overwritten, undefined, () => op.gatherElements(dO, indices, axis)]
  },
  ScatterND: (c) => {
    const {
      op,
      I: [, indices = '', updates = ''],
      dO
    } = c
    const type = op.emitter.typeOf(updates)
    const overwritten = (): string => op.node('ScatterND', [dO, indices, op.zeros(type)], op.emitter.typeOf(dO))
    return [adds(c) ? () => dO : overwritten, undefined, () => op.node('GatherND', [dO, indices], type)]
  },
  TopK: ({ op, node, I: [x = ''], O: [y = ''], dO }) => [
    () => {
      const { shape } = op.emitter.typeOf(y)
      const indices = op.emitter.requestOutput(node, 1, { type: 'int64', shape })
      const axis = resolveAxis(intAttribute(node, 'axis', -1), shape.length)
      return op.scatterElementsAdd(op.zeros(op.emitter.typeOf(x)), indices, dO, axis)
    },
    undefined
  ]
}

/** Whether updates are added to what is there; otherwise they replace it. */
function adds(c: RuleContext): boolean {
  const reduction = stringAttribute(c.node, 'reduction', 'none')
  if (reduction !== 'none' && reduction !== 'add') throw unsupportedForm(c, `reduction ${reduction}`)
  return reduction === 'add'
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

/** Batch axes become one, and every index is preceded by its number along that axis. */
function gatherND({ op, node, I: [x = '', indices = ''], dO }: RuleContext): ReturnType<Rule> {
  const batchAxes = intAttribute(node, 'batch_dims', 0)
  if (batchAxes === 0) return [() => op.scatterNDAdd(op.zeros(op.emitter.typeOf(x)), indices, dO), undefined]
  const flat = (shape: Shape): Shape => [shapeSize(shape.slice(0, batchAxes)), ...shape.slice(batchAxes)]
  const scattered = (): string => {
    const { type, shape } = op.emitter.typeOf(x)
    const own = op.reshape(indices, flat(op.shape(indices)))
    const numbered = op.shape(own).slice(0, -1)
    const count = numbered[0] ?? 0
    const numbers = op.reshape(op.emitter.ints(range(count)), [count, ...numbered.slice(1).map(() => 1), 1])
    const full = op.concat([op.expand(numbers, [...numbered, 1]), own], numbered.length)
    const zeros = op.zeros({ type, shape: flat(shape) })
    return op.reshape(op.scatterNDAdd(zeros, full, op.reshape(dO, flat(op.shape(dO)))), shape)
  }
  return [scattered, undefined]
}
