import { describe, expect, it } from 'vitest'
import {
  add,
  addInto,
  allFinite,
  axpy,
  distance2,
  dot,
  norm2,
  subtract,
  weightedMean
} from '../../src/tensor/linear.js'

const vector = (...values: number[]): Float32Array => Float32Array.from(values)

describe('flat vectors', () => {
  it('axpy adds alpha times x into y', () => {
    const y = vector(0.5, -3, 2)
    axpy(-2, vector(0.25, 1.5, 4), y)
    expect([...y]).toEqual([0, -6, -6])
  })

  it('addInto changes the second vector only', () => {
    const [x, y] = [vector(0.5, 3), vector(2, -7)]
    addInto(x, y)
    expect([...x]).toEqual([0.5, 3])
    expect([...y]).toEqual([2.5, -4])
  })

  it('subtract and add are ordered and leave their operands alone', () => {
    const [a, b] = [vector(5, 0.5), vector(3, 2)]
    expect([...subtract(a, b)]).toEqual([2, -1.5])
    expect([...subtract(b, a)]).toEqual([-2, 1.5])
    expect([...add(a, b)]).toEqual([8, 2.5])
    expect([...a]).toEqual([5, 0.5])
  })

  it('norms and distances follow 3-4-12-13', () => {
    expect(norm2(vector(3, -4, 12))).toBe(13)
    expect(distance2(vector(4, 0, 14), vector(1, 4, 2))).toBe(13)
    expect(dot(vector(3, -4), vector(0.5, 2))).toBe(-6.5)
  })

  it('sums in float64: 2^24 + 1 + 1 keeps its ones', () => {
    expect(dot(vector(2 ** 24, 1, 1), vector(1, 1, 1))).toBe(2 ** 24 + 2)
  })

  it('allFinite finds one NaN or infinity', () => {
    expect(allFinite(vector(1, -2, 3e38))).toBe(true)
    expect(allFinite(vector(1, Number.NaN))).toBe(false)
    expect(allFinite(vector(-Infinity, 1))).toBe(false)
  })

  it('weightedMean weighs by share', () => {
    const mean = weightedMean([vector(1, 10), vector(4, -2), vector(7, 0)], [1, 3, 2])
    expect([...mean].map((value) => value.toFixed(12))).toEqual([(27 / 6).toFixed(12), (4 / 6).toFixed(12)])
  })

  it.each([
    ['axpy', () => axpy(1, vector(1, 2), vector(1))],
    ['subtract', () => subtract(vector(1), vector(1, 2))],
    ['weightedMean, a vector', () => weightedMean([vector(1, 2), vector(1)], [1, 1])],
    ['weightedMean, the weights', () => weightedMean([vector(1)], [1, 2])]
  ])('%s refuses unequal lengths', (_, act) => {
    expect(act).toThrow(expect.objectContaining({ code: 'tensor/length-mismatch' }))
  })

  it('weightedMean refuses no vectors and no weight', () => {
    expect(() => weightedMean([], [])).toThrow(expect.objectContaining({ code: 'tensor/no-weight' }))
    expect(() => weightedMean([vector(1)], [0])).toThrow(expect.objectContaining({ code: 'tensor/no-weight' }))
  })
})
