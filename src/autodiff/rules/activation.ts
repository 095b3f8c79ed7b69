import type { Ops } from '../ops.js'
import type { Rule, RuleTable } from '../rule.js'
import { floatAttribute, shared, stringAttribute } from '../rule.js'

/** Slope of the linear part of QuickGelu where the attribute is left out (the CLIP constant). */
const QUICK_GELU_ALPHA = 1.702
const SQRT_2 = Math.SQRT2
const INVERSE_SQRT_2_PI = 1 / Math.sqrt(2 * Math.PI)
/** tanh form of Gelu: 0.5 x (1 + tanh(K (x + C x^3))). */
const TANH_K = Math.sqrt(2 / Math.PI)
const TANH_C = 0.044715

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
  Softplus: ({ op, I: [x = ''], dO }) => [() => op.mul(dO, op.unary('Sigmoid', x))],
  Gelu: (c) => (stringAttribute(c.node, 'approximate', 'none') === 'tanh' ? tanhGelu(c) : erfGelu(c)),
  'com.microsoft.Gelu': erfGelu,
  'com.microsoft.BiasGelu': biased(erfGelu),
  'com.microsoft.FastGelu': biased(tanhGelu),
  'com.microsoft.QuickGelu': swish(QUICK_GELU_ALPHA),
  Swish: swish(1)
}

function erfGelu({ op, I: [x = ''], dO }: Parameters<Rule>[0]) {
  return [() => op.mul(dO, erfGeluSlope(op, x))]
}

/** Phi(x) + x phi(x), Phi and phi the standard normal distribution and density. */
function erfGeluSlope(op: Ops, x: string): string {
  const erf = op.unary('Erf', op.scale(x, 1 / SQRT_2))
  const distribution = op.scale(op.add(erf, op.scalar(1, x)), 0.5)
  const density = op.scale(op.unary('Exp', op.mul(x, op.scale(x, -0.5))), INVERSE_SQRT_2_PI)
  return op.add(distribution, op.mul(x, density))
}

function tanhGelu({ op, I: [x = ''], dO }: Parameters<Rule>[0]) {
  return [() => op.mul(dO, tanhGeluSlope(op, x))]
}

/** 0.5 (1 + t) + 0.5 x (1 - t^2) K (1 + 3 C x^2), t = tanh(K (x + C x^3)). */
function tanhGeluSlope(op: Ops, x: string): string {
  const square = op.mul(x, x)
  const one = op.scalar(1, x)
  const t = op.unary('Tanh', op.mul(x, op.add(op.scale(square, TANH_K * TANH_C), op.scalar(TANH_K, x))))
  const inner = op.mul(x, op.add(op.scale(square, 1.5 * TANH_K * TANH_C), op.scalar(0.5 * TANH_K, x)))
  return op.add(op.scale(op.add(t, one), 0.5), op.mul(inner, op.sub(one, op.mul(t, t))))
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
