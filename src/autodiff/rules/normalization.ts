import type { Ops } from '../ops.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { floatAttribute, intAttribute, shared, unsupportedForm } from '../rule.js'
import { range, resolveAxis } from '../shape.js'

/** Epsilon of LayerNormalization and RMSNormalization where the attribute is left out. */
const DEFAULT_EPSILON = 1e-5

/** Layer and root-mean-square normalisation with scale. Statistics come from the forward node where it offers them. */
export const normalization: RuleTable = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization((c) => recomputedInverse(c)),
  SimplifiedLayerNormalization: rmsNormalization((c) => c.op.emitter.requestOutput(c.node, 1, statisticsType(c)))
}

function normalizedAxes({ op, node, I: [x = ''] }: RuleContext): readonly number[] {
  const rank = op.shape(x).length
  return range(rank).slice(resolveAxis(intAttribute(node, 'axis', -1), rank))
}

function statisticsType(c: RuleContext) {
  const { type, shape } = c.op.emitter.typeOf(c.I[0] ?? '')
  const axes = normalizedAxes(c)
  return { type, shape: shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)) }
}

function meanOver(op: Ops, x: string, axes: readonly number[]): string {
  const count = axes.reduce((product, axis) => product * (op.shape(x)[axis] ?? 1), 1)
  return op.scale(op.reduceSum(x, axes), 1 / count)
}

/** d = x - mean, r = 1 / deviation, g = dO scale: dx = r g - d r^2 mean(g d r) - r mean(g). */
function layerNormalization(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = '', scale = ''],
    dO
  } = c
  const axes = normalizedAxes(c)
  const statistics = statisticsType(c)
  const inverse = shared(() => op.emitter.requestOutput(node, 2, statistics))
  const centred = shared(() => op.sub(x, op.emitter.requestOutput(node, 1, statistics)))
  return [
    () => {
      const g = op.mul(dO, scale)
      const r = inverse()
      const cubed = op.mul(r, op.mul(r, r))
      const along = op.mul(cubed, meanOver(op, op.mul(g, centred()), axes))
      const offset = op.mul(r, meanOver(op, g, axes))
      return op.sub(op.sub(op.mul(g, r), op.mul(centred(), along)), offset)
    },
    () => op.mul(dO, op.mul(centred(), inverse())),
    () => dO
  ]
}

/** r = 1 / rms(x), g = dO scale: dx = r g - x r^3 mean(g x). */
function rmsNormalization(inverseOf: (c: RuleContext) => string): Rule {
  return (c) => {
    const {
      op,
      I: [x = '', scale = ''],
      dO
    } = c
    const inverse = shared(() => inverseOf(c))
    return [
      () => {
        const g = op.mul(dO, scale)
        const r = inverse()
        const cubed = op.mul(r, op.mul(r, r))
        const along = op.mul(cubed, meanOver(op, op.mul(g, x), normalizedAxes(c)))
        return op.sub(op.mul(g, r), op.mul(x, along))
      },
      () => op.mul(dO, op.mul(x, inverse()))
    ]
  }
}

function recomputedInverse(c: RuleContext): string {
  const {
    op,
    node,
    I: [x = '']
  } = c
  const square = meanOver(op, op.mul(x, x), normalizedAxes(c))
  const epsilon = op.scalar(floatAttribute(node, 'epsilon', DEFAULT_EPSILON), x)
  return op.unary('Reciprocal', op.unary('Sqrt', op.add(square, epsilon)))
}

/** [channels] as a factor of [batch, channels, ...]. */
const perChannel = (op: Ops, value: string, x: string): string =>
  op.reshape(value, [
    op.shape(value)[0] ?? 1,
    ...op
      .shape(x)
      .slice(2)
      .map(() => 1)
  ])

/** Sum over everything but channels. */
function channelSum(op: Ops, x: string): string {
  const axes = range(op.shape(x).length).filter((axis) => axis !== 1)
  return op.reshape(op.reduceSum(x, axes), [op.shape(x)[1] ?? 1])
}

/** Inference form: mean and variance are frozen buffers, so y is linear in x. */
function batchNormalization(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = '', scale = '', , mean = '', variance = ''],
    dO
  } = c
  if (intAttribute(node, 'training_mode', 0) !== 0) throw unsupportedForm(c, 'statistics of the batch')
  const inverse = shared(() => {
    const epsilon = op.scalar(floatAttribute(node, 'epsilon', DEFAULT_EPSILON), variance)
    return op.unary('Reciprocal', op.unary('Sqrt', op.add(variance, epsilon)))
  })
  return [
    () => op.mul(dO, perChannel(op, op.mul(scale, inverse()), x)),
    () => op.mul(channelSum(op, op.mul(dO, op.sub(x, perChannel(op, mean, x)))), inverse()),
    () => channelSum(op, dO)
  ]
}

/** Over the axes behind the channels: n = (x - mean) r, dx = scale r (dO - mean(dO) - n mean(dO n)). */
function instanceNormalization(c: RuleContext): ReturnType<Rule> {
  const {
    op,
    node,
    I: [x = '', scale = ''],
    dO
  } = c
  const axes = range(op.shape(x).length).slice(2)
  const centred = shared(() => op.sub(x, meanOver(op, x, axes)))
  const inverse = shared(() => {
    const variance = meanOver(op, op.mul(centred(), centred()), axes)
    const epsilon = op.scalar(floatAttribute(node, 'epsilon', DEFAULT_EPSILON), x)
    return op.unary('Reciprocal', op.unary('Sqrt', op.add(variance, epsilon)))
  })
  const normalised = shared(() => op.mul(centred(), inverse()))
  return [
    () => {
      const along = op.mul(normalised(), meanOver(op, op.mul(dO, normalised()), axes))
      const rest = op.sub(op.sub(dO, meanOver(op, dO, axes)), along)
      return op.mul(rest, op.mul(inverse(), perChannel(op, scale, x)))
    },
    () => channelSum(op, op.mul(dO, normalised())),
    () => channelSum(op, dO)
  ]
}
