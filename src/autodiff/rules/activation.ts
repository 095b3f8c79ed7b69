import type { Ops } from '../ops.js'
import type { Rule, RuleTable } from '../rule.js'
import { floatAttribute, shared, stringAttribute } from '../rule.js'

/** Slope of the linear part of QuickGelu where the attribute is left out (the CLIP constant). */
const QUICK_GELU_ALPHA = 1.702
const SQRT_2 = Math.SQRT2
const LN_2_OVER_SQRT_PI = Math.log(2 / Math.sqrt(Math.PI))
/** tanh form of Gelu: 0.5 x (1 + tanh(K (x + C x^3))). */
const TANH_K = Math.sqrt(2 / Math.PI)
const TANH_C = 0.044715

const SELU_ALPHA = 1.6732631921768188
const SELU_GAMMA = 1.0507010221481323

/** Nonlinearities, those the runtime fuses included. */
export const activation: RuleTable = {
  Erf: ({ op, I: [x = ''], dO }) => [
    () => op.mul(dO, op.scale(op.unary('Exp', op.unary('Neg', op.mul(x, x))), 2 / Math.sqrt(Math.PI)))
  ],
  Tanh: ({ op, O: [y = ''], dO }) => [() => op.sub(dO, op.mul(dO, op.mul(y, y)))],
  Sigmoid: ({ op, O: [y = ''], dO }) => [
    () => {
      const slope = op.mul(dO, y)
      return op.sub(slope, op.mul(slope, y))
    }
  ],
  Relu: ({ op, O: [y = ''], dO }) => [() => op.where(op.compare('Greater', y, op.scalar(0, y)), dO, op.scalar(0, y))],
  LeakyRelu: ({ op, node, I: [x = ''], dO }) => [
    () => {
      const slope = floatAttribute(node, 'alpha', 0.01)
      return op.where(op.compare('Greater', x, op.scalar(0, x)), dO, op.scale(dO, slope))
    }
  ],
  PRelu: ({ op, I: [x = '', slope = ''], dO }) => {
    const isPositive = shared(() => op.compare('Greater', x, op.scalar(0, x)))
    return [
      () => op.where(isPositive(), dO, op.mul(dO, slope)),
      () => op.where(isPositive(), op.scalar(0, x), op.mul(dO, x))
    ]
  },
  Elu: exponentialLinear(({ node }) => [1, floatAttribute(node, 'alpha', 1)]),
  Selu: exponentialLinear(({ node }) => {
    const gamma = floatAttribute(node, 'gamma', SELU_GAMMA)
    return [gamma, gamma * floatAttribute(node, 'alpha', SELU_ALPHA)]
  }),
  /** y = alpha (exp(x / alpha) - 1) below 0, whose slope is y / alpha + 1. */
  Celu: ({ op, node, I: [x = ''], O: [y = ''], dO }) => [
    () => {
      const below = op.add(op.scale(y, 1 / floatAttribute(node, 'alpha', 1)), op.scalar(1, y))
      return op.where(op.compare('Greater', x, op.scalar(0, x)), dO, op.mul(dO, below))
    }
  ],
  HardSigmoid: ({ op, node, O: [y = ''], dO }) => [
    () => op.where(inside(op, y, [0, 1]), op.scale(dO, floatAttribute(node, 'alpha', 0.2)), op.scalar(0, dO))
  ],
  /** y = x clip(x / 6 + 1 / 2, 0, 1). */
  HardSwish: ({ op, I: [x = ''], dO }) => [
    () => {
      const middle = op.add(op.scale(x, 1 / 3), op.scalar(0.5, x))
      const outer = op.cast(op.compare('Greater', x, op.scalar(0, x)), op.type(x))
      return op.mul(dO, op.where(inside(op, x, [-3, 3]), middle, outer))
    }
  ],
  /** y = x t, t = tanh(softplus(x)): dy/dx = t + x (1 - t^2) sigmoid(x). */
  Mish: ({ op, I: [x = ''], dO }) => [
    () => {
      const t = op.unary('Tanh', op.node('Softplus', [x], op.emitter.typeOf(x)))
      const tail = op.mul(op.mul(x, op.unary('Sigmoid', x)), op.sub(op.scalar(1, x), op.mul(t, t)))
      return op.mul(dO, op.add(t, tail))
    }
  ],
  /** y = x / (1 + |x|): dy/dx = 1 / (1 + |x|)^2. */
  Softsign: ({ op, I: [x = ''], dO }) => [
    () => {
      const below = op.add(op.unary('Abs', x), op.scalar(1, x))
      return op.div(dO, op.mul(below, below))
    }
  ],
  Softplus: ({ op, I: [x = ''], dO }) => [() => op.mul(dO, op.unary('Sigmoid', x))],
  Gelu: (c) => (stringAttribute(c.node, 'approximate', 'none') === 'tanh' ? tanhGelu(c) : erfGelu(c)),
  'com.microsoft.Gelu': erfGelu,
  'com.microsoft.BiasGelu': biased(erfGelu),
  'com.microsoft.FastGelu': biased(tanhGelu),
  'com.microsoft.QuickGelu': swish(QUICK_GELU_ALPHA),
  Swish: swish(1)
}

const inside = (op: Ops, x: string, [low, high]: readonly [low: number, high: number]): string =>
  op.compare('And', op.compare('Greater', x, op.scalar(low, x)), op.compare('Less', x, op.scalar(high, x)))

/** y = slope x above 0 and below it limit (exp(x) - 1), whose slope is y + limit. */
function exponentialLinear(factorsOf: (c: Parameters<Rule>[0]) => readonly [slope: number, limit: number]): Rule {
  return (c) => [
    () => {
      const {
        op,
        I: [x = ''],
        O: [y = ''],
        dO
      } = c
      const [slope, limit] = factorsOf(c)
      const below = op.mul(dO, op.add(y, op.scalar(limit, y)))
      return op.where(op.compare('Greater', x, op.scalar(0, x)), op.scale(dO, slope), below)
    }
  ]
}

/**
 * Phi(x) + x phi(x), Phi and phi the standard normal distribution and density; with z = x / sqrt(2) that is
 * (1 + erf(z) + z 2 / sqrt(pi) exp(-z^2)) / 2. Written so that few passes over the wide tensor are made: a constant factor
 * is an addend of the exponent, and a subtraction its sign.
 */
function erfGelu({ op, I: [x = ''], dO }: Parameters<Rule>[0]) {
  const doubled = (): string => {
    const z = op.scale(x, 1 / SQRT_2)
    const bell = op.unary('Exp', op.sub(op.scalar(LN_2_OVER_SQRT_PI, x), op.mul(z, z)))
    return op.add(op.add(op.unary('Erf', z), op.mul(z, bell)), op.scalar(1, x))
  }
  return [() => op.mul(op.scale(dO, 0.5), doubled())]
}

/**
 * 0.5 x (1 + tanh(v / 2)) = x s with s = sigmoid(v), v = x (2 K + 2 K C x^2), so the slope is s + x s (1 - s) v', which is
 * s (1 + (1 - s) x (2 K + 6 K C x^2)).
 */
function tanhGelu({ op, I: [x = ''], dO }: Parameters<Rule>[0]) {
  const slope = (): string => {
    const square = op.mul(x, x)
    const cubic = (factor: number): string =>
      op.mul(x, op.add(op.scale(square, factor * TANH_K * TANH_C), op.scalar(2 * TANH_K, x)))
    const s = op.unary('Sigmoid', cubic(2))
    const one = op.scalar(1, x)
    return op.mul(s, op.add(op.mul(cubic(6), op.sub(one, s)), one))
  }
  return [() => op.mul(dO, slope())]
}

/** f(x + bias) from f; the bias input is optional. */
function biased(rule: Rule): Rule {
  return (c) => {
    const [x = '', bias = ''] = c.I
    if (bias === '') return rule(c)
    const derivative = shared(() => rule({ ...c, I: [c.op.add(x, bias)] })[0]?.() ?? c.dO)
    return [derivative, derivative]
  }
}

/** y = x s, s = sigmoid(alpha x): dy/dx = s + alpha y (1 - s). */
function swish(defaultAlpha: number): Rule {
  return ({ op, node, I: [x = ''], O: [y = ''], dO }) => [
    () => {
      const alpha = floatAttribute(node, 'alpha', defaultAlpha)
      const s = op.unary('Sigmoid', op.scale(x, alpha))
      const tail = op.mul(op.scale(y, alpha), op.sub(op.scalar(1, s), s))
      return op.mul(dO, op.add(s, tail))
    }
  ]
}
