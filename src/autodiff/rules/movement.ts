import type { Cotangent, Derivative, Rule, RuleContext, RuleTable } from '../rule.js'
import { constantInts, intAttribute, intsAttribute, shared, unsupportedForm } from '../rule.js'
import { range, resolveAxis } from '../shape.js'

/** Ops that move elements and change none. */
export const movement: RuleTable = {
  Reshape: toInputShape,
  Flatten: toInputShape,
  Squeeze: toInputShape,
  Unsqueeze: toInputShape,
  /** The cotangent has the repeated shape already: the walk sums it back. */
  Expand: ({ dO }) => [() => dO, undefined],
  Transpose: ({ op, node, I: [x = ''], dO }) => [
    () => {
      const perm = intsAttribute(node, 'perm') ?? range(op.shape(x).length).reverse()
      return op.transpose(
        dO,
        perm.map((_, axis) => perm.indexOf(axis))
      )
    }
  ],
  Concat: concat,
  Split: split,
  Slice: (c) => [() => sliceInput(c)],
  Pad: pad,
  Tile: tile,
  /** Keeps a triangle: of the cotangent the same one. */
  Trilu: ({ op, node, I: [, k = ''], dO }) => [
    () => op.node('Trilu', k === '' ? [dO] : [dO, k], op.emitter.typeOf(dO), node.attributes),
    undefined
  ],
  /** What an element added to is what comes behind it. */
  CumSum: ({ op, node, I: [, axis = ''], dO }) => [
    () => {
      const reverse = { type: 'int', value: 1 - intAttribute(node, 'reverse', 0) } as const
      return op.node('CumSum', [dO, axis], op.emitter.typeOf(dO), { ...node.attributes, reverse })
    },
    undefined
  ]
}

/** Repetitions lie side by side along an axis: apart, they are summed. */
function tile(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    I: [x = '', repeats = ''],
    dO
  } = c
  const repeated = (): string => {
    const times = constantInts(c, repeats)
    const apart = op.shape(x).flatMap((extent, axis) => [times[axis] ?? 1, extent])
    const sums = op.reduceSum(
      op.reshape(dO, apart),
      times.map((_, axis) => 2 * axis)
    )
    return op.reshape(sums, op.shape(x))
  }
  return [repeated, undefined]
}

function toInputShape({ op, I: [x = ''], dO }: RuleContext): ReturnType<Rule> {
  return [() => op.reshape(dO, op.shape(x)), undefined]
}

/** One Split if every part is wanted; a lone part alone is one Slice. */
function concat({ op, node, I, O: [y = ''], dO }: RuleContext): Derivative[] {
  const axis = resolveAxis(intAttribute(node, 'axis', 0), op.shape(y).length)
  const sizes = I.map((input) => op.shape(input)[axis] ?? 0)
  const parts = shared(() => op.split(dO, sizes, axis))
  return I.map((_, index) => () => parts()[index] ?? '')
}

function split({ op, node, I: [x = ''], O, dOs }: RuleContext): ReturnType<Rule> {
  const axis = resolveAxis(intAttribute(node, 'axis', 0), op.shape(x).length)
  const whole = (): string => {
    const parts = O.map((output, index) => dOs[index] ?? op.zeros(op.emitter.typeOf(output)))
    return op.concat(parts, axis)
  }
  return [whole, undefined]
}

interface Cut {
  readonly axis: number
  readonly start: number
  readonly step: number
}

/** All axes but the last are padded; the last stays a piece, for its neighbours may be sliced out too. */
function sliceInput(c: RuleContext): Cotangent {
  const {
    op,
    I: [x = ''],
    dO
  } = c
  const shape = op.shape(x)
  const cuts = cutsOf(c)
  const spread = cuts.filter(({ step }) => step !== 1).reduce((value, cut) => spreadOut(c, value, cut), dO)
  const plain = cuts.filter(({ axis, step }) => step === 1 && op.shape(dO)[axis] !== shape[axis])
  const last = plain.pop()
  const value = plain.reduce((padded, { axis, start }) => {
    const length = op.shape(dO)[axis] ?? 0
    return op.pad(padded, axis, start, (shape[axis] ?? 0) - start - length)
  }, spread)
  return last === undefined ? value : { axis: last.axis, start: last.start, value }
}

/** Puts every row back where a step other than 1 took it from; all others read one row of zeros behind them. */
function spreadOut({ op, I: [x = ''] }: RuleContext, value: string, { axis, start, step }: Cut): string {
  const count = op.shape(value)[axis] ?? 0
  const sources = range(op.shape(x)[axis] ?? 0).map((place) => {
    const row = (place - start) / step
    return Number.isInteger(row) && row >= 0 && row < count ? row : count
  })
  return op.gather(op.pad(value, axis, 0, 1), op.emitter.ints(sources), axis)
}

function cutsOf(c: RuleContext): Cut[] {
  const {
    op,
    I: [x = '', starts = '', , axes = '', steps = '']
  } = c
  const shape = op.shape(x)
  const first = constantInts(c, starts)
  const along = axes === '' ? range(first.length) : constantInts(c, axes)
  const every = steps === '' ? [] : constantInts(c, steps)
  return along.map((negative, index) => {
    const axis = resolveAxis(negative, shape.length)
    const extent = shape[axis] ?? 0
    const step = every[index] ?? 1
    const start = first[index] ?? 0
    const last = step < 0 ? extent - 1 : extent
    return { axis, step, start: Math.min(last, Math.max(0, start < 0 ? start + extent : start)) }
  })
}

/** Constant padding only: the cotangent of what was inside. */
function pad(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = '', pads = '', , axes = ''],
    dO
  } = c
  const mode = node.attributes.mode
  if (mode?.type === 'string' && mode.value !== 'constant') throw unsupportedForm(c, `mode ${mode.value}`)
  const inner = (): string => {
    const shape = op.shape(x)
    const before = constantInts(c, pads)
    const along = axes === '' ? range(shape.length) : constantInts(c, axes).map((a) => resolveAxis(a, shape.length))
    return along.reduce((rest, axis, index) => {
      const start = before[index] ?? 0
      return op.slice(rest, axis, start, start + (shape[axis] ?? 0))
    }, dO)
  }
  return [inner]
}
