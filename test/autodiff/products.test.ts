import { describe, it } from 'vitest'
import { checkGradients, float, type GradientCase, int, ints, random } from './gradient-check.js'
import { broadcast, conv2d, type ConvGeometry, map, matmul, type NDArray, transpose } from './reference.js'

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
})
