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

describe('functions of one number', () => {
  for (const [name, test] of Object.entries(UNARY)) it(name, () => checkGradients(test))
})
