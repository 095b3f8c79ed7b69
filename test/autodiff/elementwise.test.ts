import { describe, it } from 'vitest'
import { checkGradients, float, type GradientCase, int, random, text } from './gradient-check.js'
import { broadcast, erf, map, type NDArray, nd } from './reference.js'

const positive = (shape: readonly number[], seed = 'p'): NDArray => random(shape, { seed, low: 0.3, high: 2.5 })
const unary =
  (f: (x: number) => number) =>
  (x?: NDArray): NDArray =>
    map(x as NDArray, f)
const many =
  (f: (...values: number[]) => number) =>
  (...xs: readonly NDArray[]): NDArray =>
    broadcast(xs, f)
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

/** Shapes that broadcast to the left, to the right, both ways at once, to and from rank 1 and 5. */
const BROADCASTS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3]
  ],
  [[4, 2, 3], [3]],
  [[3], [4, 2, 3]],
  [
    [4, 1, 3],
    [2, 1]
  ],
  [
    [2, 1, 3, 1, 2],
    [1, 2, 1, 3, 2]
  ],
  [[], [2, 3]]
]

describe('arithmetic broadcasts and its gradient is summed back', () => {
  for (const [a, b] of BROADCASTS)
    it(`Add, Sub, Mul, Div, Pow of [${a}] and [${b}]`, async () => {
      const inputs = [positive(a, 'a'), positive(b, 'b')]
      await checkGradients({ op: 'Add', inputs, forward: many((x = 0, y = 0) => x + y) })
      await checkGradients({ op: 'Sub', inputs, forward: many((x = 0, y = 0) => x - y) })
      await checkGradients({ op: 'Mul', inputs, forward: many((x = 0, y = 0) => x * y) })
      await checkGradients({ op: 'Div', inputs, forward: many((x = 0, y = 0) => x / y) })
      await checkGradients({ op: 'Pow', inputs, forward: many((x = 0, y = 0) => x ** y) })
    })

  it('Sum, Max and Min of three operands of unequal shapes', async () => {
    const inputs = [random([2, 3], { seed: 'a' }), random([3], { seed: 'b' }), random([2, 1], { seed: 'c' })]
    await checkGradients({ op: 'Sum', inputs, forward: many((a = 0, b = 0, c = 0) => a + b + c) })
    await checkGradients({ op: 'Max', inputs, forward: many(Math.max) })
    await checkGradients({ op: 'Min', inputs, forward: many(Math.min) })
  })

  it('Where with a condition that broadcasts', async () => {
    const condition = { bools: [true, false, true], shape: [3, 1] }
    const choose = many((a = 0, b = 0, c = 0) => (c > 0 ? a : b))
    await checkGradients({
      op: 'Where',
      inputs: [condition, random([2, 3, 4], { seed: 'a' }), random([4], { seed: 'b' })],
      forward: (a, b) => choose(a as NDArray, b as NDArray, nd([3, 1], [1, 0, 1]))
    })
  })
})

const clamp = (v: number, low: number, high: number): number => Math.min(high, Math.max(low, v))
const SHAPE = [3, 1, 5]
const x = random(SHAPE)
const p = positive(SHAPE)
const tanhGelu = (v: number): number => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)))
const erfGelu = (v: number): number => 0.5 * v * (1 + erf(v / Math.SQRT2))
const quick = (v: number): number => v * sigmoid(1.702 * v)
const silu = (v: number): number => v * sigmoid(v)

const UNARY: Readonly<Record<string, GradientCase>> = {
  Identity: { op: 'Identity', inputs: [x], forward: unary((v) => v) },
  Neg: { op: 'Neg', inputs: [x], forward: unary((v) => -v) },
  Abs: { op: 'Abs', inputs: [x], forward: unary(Math.abs) },
  Exp: { op: 'Exp', inputs: [x], forward: unary(Math.exp) },
  Log: { op: 'Log', inputs: [p], forward: unary(Math.log) },
  Sqrt: { op: 'Sqrt', inputs: [p], forward: unary(Math.sqrt) },
  Reciprocal: { op: 'Reciprocal', inputs: [p], forward: unary((v) => 1 / v) },
  Sin: { op: 'Sin', inputs: [x], forward: unary(Math.sin) },
  Cos: { op: 'Cos', inputs: [x], forward: unary(Math.cos) },
  Erf: { op: 'Erf', inputs: [x], forward: unary(erf) },
  Tanh: { op: 'Tanh', inputs: [x], forward: unary(Math.tanh) },
  Sigmoid: { op: 'Sigmoid', inputs: [x], forward: unary(sigmoid) },
  Softplus: { op: 'Softplus', inputs: [x], forward: unary((v) => Math.log1p(Math.exp(v))) },
  Relu: { op: 'Relu', inputs: [x], forward: unary((v) => Math.max(0, v)) },
  Elu: {
    op: 'Elu',
    attributes: { alpha: float(0.7) },
    inputs: [x],
    forward: unary((v) => (v > 0 ? v : 0.7 * Math.expm1(v)))
  },
  Selu: {
    op: 'Selu',
    inputs: [x],
    forward: unary((v) => 1.0507010221481323 * (v > 0 ? v : 1.6732631921768188 * Math.expm1(v)))
  },
  Celu: {
    op: 'Celu',
    attributes: { alpha: float(0.7) },
    inputs: [x],
    forward: unary((v) => (v > 0 ? v : 0.7 * Math.expm1(v / 0.7)))
  },
  HardSigmoid: {
    op: 'HardSigmoid',
    attributes: { alpha: float(0.5) },
    inputs: [x],
    forward: unary((v) => clamp(0.5 * v + 0.5, 0, 1))
  },
  HardSwish: {
    op: 'HardSwish',
    inputs: [random([40], { low: -4.5, high: 4.5 })],
    forward: unary((v) => v * clamp(v / 6 + 0.5, 0, 1))
  },
  Mish: { op: 'Mish', inputs: [x], forward: unary((v) => v * Math.tanh(Math.log1p(Math.exp(v)))) },
  Softsign: { op: 'Softsign', inputs: [x], forward: unary((v) => v / (1 + Math.abs(v))) },
  Swish: {
    op: 'Swish',
    opset: 24,
    attributes: { alpha: float(1.5) },
    inputs: [x],
    forward: unary((v) => v * sigmoid(1.5 * v))
  },
  'PRelu, a slope by channel': {
    op: 'PRelu',
    inputs: [random([2, 3, 4]), positive([3, 1])],
    forward: many((v = 0, slope = 0) => (v > 0 ? v : slope * v))
  },
  'Mod, as floats have it': {
    op: 'Mod',
    attributes: { fmod: int(1) },
    inputs: [random([2, 3], { low: -4, high: 4 }), positive([3])],
    forward: many((v = 0, w = 0) => v % w)
  },
  CastLike: { op: 'CastLike', inputs: [x, { floats: [1] }], forward: unary((v) => v) },
  'Clip, both bounds': {
    op: 'Clip',
    inputs: [x, { floats: [-0.5] }, { floats: [0.75] }],
    forward: unary((v) => clamp(v, -0.5, 0.75))
  },
  'Clip, upper bound alone': {
    op: 'Clip',
    inputs: [x, { absent: true }, { floats: [0.25] }],
    forward: unary((v) => Math.min(v, 0.25))
  },
  'Clip, lower bound alone': { op: 'Clip', inputs: [x, { floats: [0.25] }], forward: unary((v) => Math.max(v, 0.25)) },
  LeakyRelu: {
    op: 'LeakyRelu',
    attributes: { alpha: float(0.25) },
    inputs: [x],
    forward: unary((v) => (v > 0 ? v : v / 4))
  },
  Cast: { op: 'Cast', attributes: { to: int(1) }, inputs: [x], forward: unary((v) => v) },
  'Gelu, erf': { op: 'Gelu', inputs: [x], forward: unary(erfGelu) },
  'Gelu, tanh': { op: 'Gelu', attributes: { approximate: text('tanh') }, inputs: [x], forward: unary(tanhGelu) },
  'com.microsoft Gelu': { op: 'Gelu', domain: 'com.microsoft', inputs: [x], forward: unary(erfGelu) },
  FastGelu: { op: 'FastGelu', domain: 'com.microsoft', inputs: [x], forward: unary(tanhGelu) },
  QuickGelu: { op: 'QuickGelu', domain: 'com.microsoft', inputs: [x], forward: unary(quick) },
  SiLU: {
    op: 'QuickGelu',
    domain: 'com.microsoft',
    attributes: { alpha: float(1) },
    inputs: [x],
    forward: unary(silu)
  },
  'FastGelu with bias': {
    op: 'FastGelu',
    domain: 'com.microsoft',
    inputs: [x, random([5])],
    forward: many((a = 0, b = 0) => tanhGelu(a + b))
  },
  BiasGelu: {
    op: 'BiasGelu',
    domain: 'com.microsoft',
    inputs: [x, random([5])],
    forward: many((a = 0, b = 0) => erfGelu(a + b))
  }
}

describe('powers', () => {
  it.each([1, 2, 3, 0.5, 2.5, -1, -0.5, 0])('by the constant %f', (power) =>
    checkGradients({ op: 'Pow', inputs: [p, { floats: [power] }], forward: unary((v) => v ** power) })
  )
  it('of negative numbers, by a constant', async () => {
    for (const power of [1, 2, 3, 4])
      await checkGradients({ op: 'Pow', inputs: [x, { floats: [power] }], forward: unary((v) => v ** power) })
  })
  it('by a constant whole number', () =>
    checkGradients({ op: 'Pow', inputs: [x, { ints: [3], shape: [] }], forward: unary((v) => v ** 3) }))
})

describe('functions of one number', () => {
  for (const [name, test] of Object.entries(UNARY)) it(name, () => checkGradients(test))
})
