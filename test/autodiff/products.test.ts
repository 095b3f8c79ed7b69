import { describe, it } from 'vitest'
import { checkGradients, float, type GradientCase, int, ints, random, text } from './gradient-check.js'
import {
  at,
  broadcast,
  build,
  conv2d,
  type ConvGeometry,
  map,
  matmul,
  mean,
  type NDArray,
  pool2d,
  sum,
  transpose
} from './reference.js'

const swapLast = (x: NDArray): NDArray => {
  const rank = x.shape.length
  return transpose(x, [...x.shape.keys()].slice(0, -2).concat(rank - 1, rank - 2))
}
const a = (shape: readonly number[]): NDArray => random(shape, { seed: 'a' })
const b = (shape: readonly number[]): NDArray => random(shape, { seed: 'b' })

describe('MatMul', () => {
  const SHAPES: readonly (readonly [readonly number[], readonly number[]])[] = [
    [
      [2, 3],
      [3, 4]
    ],
    [
      [2, 5, 3],
      [3, 4]
    ],
    [
      [2, 1, 3, 4],
      [3, 4, 2]
    ],
    [
      [5, 3],
      [2, 3, 4]
    ],
    [
      [2, 1, 2, 3, 2],
      [1, 3, 1, 2, 4]
    ],
    [[3], [3]],
    [[3], [2, 3, 4]],
    [[2, 4, 3], [3]],
    [[4, 3], [3]],
    [[3], [3, 2]]
  ]
  for (const [left, right] of SHAPES)
    it(`[${left}] by [${right}]`, () =>
      checkGradients({
        op: 'MatMul',
        inputs: [a(left), b(right)],
        forward: (x, y) => matmul(x as NDArray, y as NDArray)
      }))
})

describe('Gemm', () => {
  for (const transA of [0, 1])
    for (const transB of [0, 1])
      for (const c of [[4], [2, 1], [2, 4], []])
        it(`transA ${transA}, transB ${transB}, C of shape [${c}]`, () => {
          const attributes = { transA: int(transA), transB: int(transB), alpha: float(0.5), beta: float(3) }
          const inputs = [a(transA ? [3, 2] : [2, 3]), b(transB ? [4, 3] : [3, 4]), random(c, { seed: 'c' })]
          const forward: GradientCase['forward'] = (x, y, z) => {
            const left = transA ? swapLast(x as NDArray) : (x as NDArray)
            const right = transB ? swapLast(y as NDArray) : (y as NDArray)
            return broadcast([matmul(left, right), z as NDArray], (u = 0, v = 0) => 0.5 * u + 3 * v)
          }
          return checkGradients({ op: 'Gemm', attributes, inputs, forward })
        })
})

describe('FusedMatMul', () => {
  for (const transA of [0, 1])
    for (const transB of [0, 1])
      it(`transA ${transA}, transB ${transB}`, () => {
        const attributes = { transA: int(transA), transB: int(transB), alpha: float(0.5) }
        const inputs = [a(transA ? [5, 3, 2] : [5, 2, 3]), b(transB ? [5, 4, 3] : [5, 3, 4])]
        const forward: GradientCase['forward'] = (x, y) => {
          const left = transA ? swapLast(x as NDArray) : (x as NDArray)
          const right = transB ? swapLast(y as NDArray) : (y as NDArray)
          return map(matmul(left, right), (v) => v / 2)
        }
        return checkGradients({ op: 'FusedMatMul', domain: 'com.microsoft', attributes, inputs, forward })
      })
})

describe('Einsum', () => {
  const sum2 = (dims: Readonly<Record<string, number>>, left: string, right: string, out: string) => {
    const shapeOf = (letters: string): number[] => [...letters].map((letter) => dims[letter] as number)
    const forward: GradientCase['forward'] = (x, y) => {
      const inner = [...new Set(left + right)].filter((letter) => !out.includes(letter))
      return build(shapeOf(out), (outer) => {
        const all = build(shapeOf(inner.join('')), (within) => {
          const place = (letters: string): number[] =>
            [...letters].map((l) => (out.includes(l) ? outer[out.indexOf(l)] : within[inner.indexOf(l)]) as number)
          return at(x as NDArray, place(left)) * (right === '' ? 1 : at(y as NDArray, place(right)))
        })
        return sum(all.data)
      })
    }
    const inputs = right === '' ? [a(shapeOf(left))] : [a(shapeOf(left)), b(shapeOf(right))]
    const equation = text(`${right === '' ? left : `${left}, ${right}`} -> ${out}`)
    return checkGradients({ op: 'Einsum', attributes: { equation }, inputs, forward })
  }
  const dims = { b: 2, h: 3, i: 4, j: 5, d: 2, k: 3 }
  it.each([
    ['a product', 'ij', 'jk', 'ik'],
    ['attention scores', 'bhid', 'bhjd', 'bhij'],
    ['attention output, heads last', 'bhij', 'bjhd', 'bihd'],
    ['an outer product', 'i', 'j', 'ji'],
    ['a sum over an axis of one operand alone', 'bij', 'bk', 'kb'],
    ['a number', 'ij', 'ij', ''],
    ['a transposed sum', 'bij', '', 'jb']
  ])('%s', (_name, left, right, out) => sum2(dims, left, right, out))
})

describe('Conv', () => {
  const GEOMETRIES: Readonly<Record<string, ConvGeometry>> = {
    'patches side by side': { strides: [2, 3], dilations: [1, 1], pads: [0, 0, 0, 0] },
    'unequal padding': { strides: [1, 1], dilations: [1, 1], pads: [1, 0, 0, 2] },
    'strides that leave a rest, dilated': { strides: [2, 2], dilations: [2, 1], pads: [1, 1, 0, 0] }
  }
  for (const [name, geometry] of Object.entries(GEOMETRIES))
    it(name, () => {
      const { strides, dilations, pads } = geometry
      const attributes = { strides: ints(...strides), dilations: ints(...dilations), pads: ints(...pads) }
      return checkGradients({
        op: 'Conv',
        attributes,
        inputs: [a([2, 3, 6, 7]), b([4, 3, 2, 3]), random([4])],
        forward: (x, w, bias) => conv2d(x as NDArray, w as NDArray, bias as NDArray, geometry)
      })
    })

  it.each([
    [2, 4, 6],
    [6, 6, 6],
    [3, 3, 9]
  ])('%i groups of %i channels to %i', (groups, channels, filters) => {
    const geometry: ConvGeometry = { strides: [2, 1], dilations: [1, 2], pads: [1, 0, 1, 2], groups }
    const { strides, dilations, pads } = geometry
    return checkGradients({
      op: 'Conv',
      attributes: { strides: ints(...strides), dilations: ints(...dilations), pads: ints(...pads), group: int(groups) },
      inputs: [a([2, channels, 6, 7]), b([filters, channels / groups, 2, 3]), random([filters])],
      forward: (x, w, bias) => conv2d(x as NDArray, w as NDArray, bias as NDArray, geometry)
    })
  })

  it.each([
    ['SAME_UPPER', [0, 0, 0, 1]],
    ['SAME_LOWER', [0, 1, 0, 0]],
    ['VALID', [0, 0, 0, 0]]
  ] as const)('auto_pad %s', (mode, pads) => {
    const geometry: ConvGeometry = { strides: [2, 2], dilations: [1, 1], pads: [...pads] }
    return checkGradients({
      op: 'Conv',
      attributes: { strides: ints(2, 2), auto_pad: text(mode) },
      inputs: [a([2, 3, 6, 8]), b([4, 3, 2, 3]), random([4])],
      forward: (x, w, bias) => conv2d(x as NDArray, w as NDArray, bias as NDArray, geometry)
    })
  })

  it('over one axis, as an audio stem has it', () =>
    checkGradients({
      op: 'Conv',
      attributes: { strides: ints(2), pads: ints(1, 1) },
      inputs: [a([2, 3, 9]), b([4, 3, 3]), random([4])],
      forward: (x, w, bias) => {
        const wide = ({ shape, data }: NDArray): NDArray => ({
          shape: [shape[0] ?? 1, shape[1] ?? 1, 1, shape[2] ?? 1],
          data
        })
        const geometry: ConvGeometry = { strides: [1, 2], dilations: [1, 1], pads: [0, 1, 0, 1] }
        const { shape, data } = conv2d(wide(x as NDArray), wide(w as NDArray), bias as NDArray, geometry)
        return { shape: shape.filter((_, axis) => axis !== 2), data }
      }
    }))
})

describe('pooling', () => {
  const geometry: ConvGeometry = { strides: [2, 1], dilations: [1, 1], pads: [1, 0, 0, 2] }
  const attributes = { kernel_shape: ints(2, 3), strides: ints(...geometry.strides), pads: ints(...geometry.pads) }
  const x = a([2, 2, 4, 5])

  it('AveragePool of what is inside', () =>
    checkGradients({
      op: 'AveragePool',
      attributes,
      inputs: [x],
      forward: (v) => pool2d(v as NDArray, [2, 3], geometry, mean)
    }))
  it('AveragePool with its padding', () =>
    checkGradients({
      op: 'AveragePool',
      attributes: { ...attributes, count_include_pad: int(1) },
      inputs: [x],
      forward: (v) => pool2d(v as NDArray, [2, 3], geometry, (window) => sum(window) / 6)
    }))
  it('MaxPool of windows that overlap', () =>
    checkGradients({
      op: 'MaxPool',
      attributes,
      inputs: [x],
      forward: (v) => pool2d(v as NDArray, [2, 3], geometry, (window) => Math.max(...window))
    }))
  it('GlobalAveragePool and GlobalMaxPool', async () => {
    const whole: ConvGeometry = { strides: [1, 1], dilations: [1, 1], pads: [0, 0, 0, 0] }
    const over = (f: (window: number[]) => number): GradientCase['forward'] => {
      return (v) => pool2d(v as NDArray, [4, 5], whole, f)
    }
    await checkGradients({ op: 'GlobalAveragePool', inputs: [x], forward: over(mean) })
    await checkGradients({ op: 'GlobalMaxPool', inputs: [x], forward: over((window) => Math.max(...window)) })
  })
})
