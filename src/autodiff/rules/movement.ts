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
  Slice: slice,
  Pad: pad
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

function slice(c: RuleContext): ReturnType<Rule> {
  return [() => sliceInput(c)]
}

interface Bounds {
  readonly axis: number
  readonly start: number
}

/** All axes but the last are padded; the last stays a piece, for its neighbours may be sliced out too. */
function sliceInput(c: RuleContext): Cotangent {
  const {
    op,
    I: [x = ''],
    dO
  } = c
  const shape = op.shape(x)
  const cut = sliceBounds(c).filter(({ axis }) => op.shape(dO)[axis] !== shape[axis])
  const last = cut.pop()
  const value = cut.reduce((padded, { axis, start }) => {
    const length = op.shape(dO)[axis] ?? 0
    return op.pad(padded, axis, start, (shape[axis] ?? 0) - start - length)
  }, dO)
  return last === undefined ? value : { ...last, value }
}

function sliceBounds(c: RuleContext): Bounds[] {
  const {
    op,
    I: [x = '', starts = '', , axes = '', steps = '']
  } = c
  const shape = op.shape(x)
  if (steps !== '' && constantInts(c, steps).some((step) => step !== 1)) throw unsupportedForm(c, 'steps other than 1')
  const first = constantInts(c, starts)
  const along = axes === '' ? range(first.length) : constantInts(c, axes)
  return along.map((negative, index) => {
    const axis = resolveAxis(negative, shape.length)
    const extent = shape[axis] ?? 0
    const start = first[index] ?? 0
    return { axis, start: Math.min(extent, Math.max(0, start < 0 ? start + extent : start)) }
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
