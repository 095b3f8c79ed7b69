import type { Shape } from '../../tensor/schema.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { intAttribute } from '../rule.js'
import { range } from '../shape.js'
import { type Geometry, geometryOf, intsAttributes, transposedAttributes } from './geometry.js'

/** Convolutions over any number of spatial axes: patch embeddings, audio stems, depthwise filters. */
export const convolution: RuleTable = { Conv: conv }

function conv(c: RuleContext): ReturnType<Rule> {
  const { op, dO } = c
  const rank = op.shape(dO).length
  return [
    () => inputGradient(c),
    () => weightGradient(c),
    () => {
      const axes = range(rank).filter((axis) => axis !== 1)
      return op.reshape(op.reduceSum(dO, axes), [op.shape(dO)[1] ?? 1])
    }
  ]
}

const space = (shape: Shape): Shape => shape.slice(2)

const groupsOf = ({ node }: RuleContext): number => intAttribute(node, 'group', 1)

function geometry({ op, node, I: [x = '', w = ''], dO }: RuleContext): Geometry {
  return geometryOf(node, { kernel: space(op.shape(w)), space: space(op.shape(x)), steps: space(op.shape(dO)) })
}

/** The transposed convolution. */
function inputGradient(c: RuleContext): string {
  const {
    op,
    I: [x = '', w = ''],
    dO
  } = c
  const target = op.emitter.typeOf(x)
  return op.node('ConvTranspose', [dO, w], target, {
    ...transposedAttributes(geometry(c), space(target.shape), space(op.shape(dO))),
    group: { type: 'int', value: groupsOf(c) }
  })
}

/**
 * dW is the input, channels as batch, convolved with dO as kernel: strides and dilations change places. With groups,
 * the channels of one group are the batch, and the groups' own batches lie side by side as channels.
 */
function weightGradient(c: RuleContext): string {
  const {
    op,
    I: [x = '', w = ''],
    dO
  } = c
  const { type, shape } = op.emitter.typeOf(w)
  const [filters = 1, perGroup = 1, ...kernel] = shape
  const { strides, dilations, pads } = geometry(c)
  const groups = groupsOf(c)
  const axes = range(kernel.length)
  const [batch = 1, , ...extents] = op.shape(x)
  const grouped = op.transpose(op.reshape(x, [batch, groups, perGroup, ...extents]), [
    2,
    1,
    0,
    ...axes.map((i) => i + 3)
  ])
  const signal = op.reshape(grouped, [perGroup, groups * batch, ...extents])
  const filter = op.transpose(dO, [1, 0, ...axes.map((i) => i + 2)])
  const found = kernel.map((_, i) => {
    const padded = (extents[i] ?? 0) + (pads[i] ?? 0) + (pads[i + kernel.length] ?? 0)
    const field = ((op.shape(dO)[i + 2] ?? 1) - 1) * (strides[i] ?? 1) + 1
    return Math.floor((padded - field) / (dilations[i] ?? 1)) + 1
  })
  const whole = op.node(
    'Conv',
    [signal, filter],
    { type, shape: [perGroup, filters, ...found] },
    { ...intsAttributes({ strides: dilations, dilations: strides, pads }), group: { type: 'int', value: groups } }
  )
  const cropped = kernel.reduce((rest, extent, i) => op.slice(rest, i + 2, 0, extent), whole)
  return op.transpose(cropped, [1, 0, ...axes.map((i) => i + 2)])
}
