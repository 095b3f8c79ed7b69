import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { orthonormalRows } from '../../../src/peft/method/orthonormal.js'
import { topSingular } from '../../../src/peft/method/svd.js'

/** A matrix with singular values of our choice, float32[out, in]. */
function matrixOf(singular: readonly number[], out: number, inFeatures: number): Float32Array {
  const u = orthonormalRows(seededRng('u'), singular.length, out)
  const v = orthonormalRows(seededRng('v'), singular.length, inFeatures)
  return Float32Array.from({ length: out * inFeatures }, (_, index) => {
    const [o, i] = [Math.floor(index / inFeatures), index % inFeatures]
    return singular.reduce((sum, s, k) => sum + s * (u[k * out + o] as number) * (v[k * inFeatures + i] as number), 0)
  })
}

const dotRows = (a: ArrayLike<number>, p: number, q: number, columns: number): number => {
  let sum = 0
  for (let i = 0; i < columns; i++) sum += (a[p * columns + i] as number) * (a[q * columns + i] as number)
  return sum
}

describe('orthonormal rows', () => {
  it.each([
    [3, 5],
    [5, 5],
    [64, 257]
  ])('%i of %i features', (rows, columns) => {
    const a = orthonormalRows(seededRng('a', rows), rows, columns)
    for (let p = 0; p < rows; p++)
      for (let q = 0; q <= p; q++) expect(dotRows(a, p, q, columns)).toBeCloseTo(p === q ? 1 : 0, 6)
    expect(orthonormalRows(seededRng('a', rows), rows, columns)).toEqual(a)
  })

  it('are no more than features', () => {
    expect(() => orthonormalRows(seededRng('a'), 6, 5)).toThrowError(
      expect.objectContaining({ code: 'config/rank-too-large' })
    )
  })
})

describe('the largest singular values', () => {
  const singular = [9, 5, 4.5, 2, 0.7, 0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001]

  it.each([
    ['tall', 40, 14],
    ['wide', 14, 40]
  ])('of a %s matrix, either way round in memory', (_, outFeatures, inFeatures) => {
    const values = matrixOf(singular, outFeatures, inFeatures)
    const view = { values, outStride: inFeatures, inStride: 1 }
    const options = { outFeatures, inFeatures, rank: 4, rng: seededRng('start') }
    const found = topSingular(view, options)
    for (let k = 0; k < 4; k++) expect(found.values[k]).toBeCloseTo(singular[k] as number, 5)
    for (let p = 0; p < 4; p++)
      for (let q = 0; q <= p; q++) {
        expect(dotRows(found.left, p, q, outFeatures)).toBeCloseTo(p === q ? 1 : 0, 8)
        expect(dotRows(found.right, p, q, inFeatures)).toBeCloseTo(p === q ? 1 : 0, 8)
      }
    // What is left is as large as the singular values left out, as Eckart and Young say.
    const rest = values.map((value, index) => {
      const [o, i] = [Math.floor(index / inFeatures), index % inFeatures]
      const part = (k: number) =>
        (found.values[k] as number) *
        (found.left[k * outFeatures + o] as number) *
        (found.right[k * inFeatures + i] as number)
      return value - part(0) - part(1) - part(2) - part(3)
    })
    const norm = Math.sqrt(rest.reduce((sum, value) => sum + value * value, 0))
    expect(norm).toBeCloseTo(Math.hypot(...singular.slice(4)), 5)
    const turned = Float32Array.from({ length: values.length }, (_, index) => {
      const [i, o] = [Math.floor(index / outFeatures), index % outFeatures]
      return values[o * inFeatures + i] as number
    })
    const same = topSingular(
      { values: turned, outStride: 1, inStride: outFeatures },
      { ...options, rng: seededRng('start') }
    )
    expect(same).toEqual(found)
  })
})
