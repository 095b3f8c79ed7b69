import type { Ops } from '../ops.js'
import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { floatAttribute, intAttribute, shared } from '../rule.js'
import { range, resolveAxis } from '../shape.js'

/** Epsilon of LayerNormalization and RMSNormalization where the attribute is left out. */
const DEFAULT_EPSILON = 1e-5

/** Layer and root-mean-square normalisation with scale. Statistics come from the forward node where it offers them. */
export const normalization: RuleTable = {
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
