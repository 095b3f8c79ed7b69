import { shapeSize } from '../../tensor/schema.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { intAttribute, intsAttribute, unsupportedForm } from '../rule.js'
import { range } from '../shape.js'
import { geometryOf, intsAttributes, transposedAttributes } from './geometry.js'

/** Windows over [batch, channels, ...space] that keep one number each. */
export const pooling: RuleTable = {
  AveragePool: averagePool,
  GlobalAveragePool: ({ op, I: [x = ''], dO }) => [
    () => op.expand(op.scale(dO, 1 / shapeSize(op.shape(x).slice(2))), op.shape(x))
  ],
  GlobalMaxPool: ({ op, I: [x = ''], O: [y = ''], dO }) => [
    () => {
      const wins = op.cast(op.compare('Equal', x, y), op.type(x))
      const axes = range(op.shape(x).length).slice(2)
      return op.mul(wins, op.div(dO, op.reduceSum(wins, axes)))
    }
  ],
  MaxPool: maxPool
}

/** A transposed convolution with ones, every channel for itself, of dO over the number of elements averaged. */
function averagePool(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = ''],
    dO
  } = c
  if (intAttribute(node, 'ceil_mode', 0) !== 0) throw unsupportedForm(c, 'ceil_mode')
  const spread = (): string => {
    const { type, shape } = op.emitter.typeOf(x)
    const [space, steps] = [shape.slice(2), op.shape(dO).slice(2)]
    const kernel = intsAttribute(node, 'kernel_shape') ?? []
    const geometry = geometryOf(node, { kernel, space, steps })
    const ones = (extents: readonly number[]): string =>
      op.expand(op.reshape(op.emitter.scalar(1, type), [1, 1, ...extents.map(() => 1)]), [1, 1, ...extents])
    const filter = ones(kernel)
    const channels = (shape[0] ?? 1) * (shape[1] ?? 1)
    const { strides, dilations, pads } = geometry
    const whole = intAttribute(node, 'count_include_pad', 0) !== 0
    const counts = op.node(
      'Conv',
      [ones(space), filter],
      { type, shape: [1, 1, ...steps] },
      {
        ...intsAttributes({ strides, dilations, pads })
      }
    )
    const rows = op.reshape(dO, [channels, 1, ...steps])
    const shares = whole ? op.scale(rows, 1 / shapeSize(kernel)) : op.div(rows, counts)
    const attributes = transposedAttributes(geometry, space, steps)
    return op.reshape(
      op.node('ConvTranspose', [shares, filter], { type, shape: [channels, 1, ...space] }, attributes),
      shape
    )
  }
  return [spread]
}

/** The forward node says where each maximum was, as an index into the whole tensor. */
function maxPool(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = ''],
    dO
  } = c
  if (intAttribute(node, 'storage_order', 0) !== 0) throw unsupportedForm(c, 'storage_order')
  const scattered = (): string => {
    const { type, shape } = op.emitter.typeOf(x)
    const places = op.emitter.requestOutput(node, 1, { type: 'int64', shape: op.shape(dO) })
    const count = shapeSize(op.shape(dO))
    const zeros = op.zeros({ type, shape: [shapeSize(shape)] })
    return op.reshape(op.scatterElementsAdd(zeros, op.reshape(places, [count]), op.reshape(dO, [count]), 0), shape)
  }
  return [scattered]
}
