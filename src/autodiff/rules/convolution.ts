import type { Attribute, Node } from '../../onnx/graph.js'
import type { Shape } from '../../tensor/schema.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { intAttribute, intsAttribute, stringAttribute, unsupportedForm } from '../rule.js'
import { range } from '../shape.js'

/** Convolutions of one group over any number of spatial axes (a patch embedding, mostly). */
export const convolution: RuleTable = { Conv: conv }

interface Geometry {
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
  /** Before each axis, then after each axis. */
  readonly pads: readonly number[]
}

function geometryOf(node: Node, axes: number): Geometry {
  const ones = range(axes).map(() => 1)
  return {
    strides: intsAttribute(node, 'strides') ?? ones,
    dilations: intsAttribute(node, 'dilations') ?? ones,
    pads: intsAttribute(node, 'pads') ?? range(2 * axes).map(() => 0)
  }
}

const attributes = (lists: Record<string, readonly number[]>): Record<string, Attribute> =>
  Object.fromEntries(Object.entries(lists).map(([name, value]) => [name, { type: 'ints', value }]))

function conv(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = ''],
    dO
  } = c
  if (intAttribute(node, 'group', 1) !== 1) throw unsupportedForm(c, 'groups')
  const padding = stringAttribute(node, 'auto_pad', 'NOTSET')
  if (padding !== 'NOTSET' && padding !== 'VALID') throw unsupportedForm(c, `auto_pad ${padding}`)
  const rank = op.shape(x).length
  return [
    () => inputGradient(c),
    () => weightGradient(c),
    () => {
      const axes = range(rank).filter((axis) => axis !== 1)
      return op.reshape(op.reduceSum(dO, axes), [op.shape(dO)[1] ?? 1])
    }
  ]
}

/** The transposed convolution; what the stride left over at the far end is output padding. */
function inputGradient({ op, node, I: [x = '', w = ''], dO }: RuleContext): string {
  const target = op.emitter.typeOf(x)
  const space = target.shape.slice(2)
  const { strides, dilations, pads } = geometryOf(node, space.length)
  const covered = coveredExtents(op.shape(dO).slice(2), op.shape(w).slice(2), { strides, dilations, pads })
  const output_padding = space.map((extent, i) => extent - (covered[i] ?? 0))
  const lists = attributes({ strides, dilations, pads, output_padding })
  return op.emitter.emit({ op: 'ConvTranspose', inputs: [dO, w], outputs: [target], attributes: lists })[0] ?? ''
}

const coveredExtents = (steps: Shape, kernel: Shape, { strides, dilations, pads }: Geometry): number[] =>
  steps.map((count, i) => {
    const field = ((kernel[i] ?? 1) - 1) * (dilations[i] ?? 1) + 1
    return (count - 1) * (strides[i] ?? 1) + field - (pads[i] ?? 0) - (pads[i + steps.length] ?? 0)
  })

/** dW is the input, channels as batch, convolved with dO as kernel: strides and dilations change places. */
function weightGradient({ op, node, I: [x = '', w = ''], dO }: RuleContext): string {
  const { type, shape } = op.emitter.typeOf(w)
  const kernel = shape.slice(2)
  const { strides, dilations, pads } = geometryOf(node, kernel.length)
  const swap = [1, 0, ...range(kernel.length).map((axis) => axis + 2)]
  const [signal, filter] = [op.transpose(x, swap), op.transpose(dO, swap)]
  const extents = kernel.map((_, i) => {
    const padded = (op.shape(x)[i + 2] ?? 0) + (pads[i] ?? 0) + (pads[i + kernel.length] ?? 0)
    const field = ((op.shape(dO)[i + 2] ?? 1) - 1) * (strides[i] ?? 1) + 1
    return Math.floor((padded - field) / (dilations[i] ?? 1)) + 1
  })
  const whole =
    op.emitter.emit({
      op: 'Conv',
      inputs: [signal, filter],
      outputs: [{ type, shape: [shape[1] ?? 1, shape[0] ?? 1, ...extents] }],
      attributes: attributes({ strides: dilations, dilations: strides, pads })
    })[0] ?? ''
  const cropped = kernel.reduce((rest, extent, i) => op.slice(rest, i + 2, 0, extent), whole)
  return op.transpose(cropped, swap)
}
