import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { euclidean, productDistance } from '../../../src/consensus/rules/distance.js'
import { factorsOf } from '../../../src/tensor/factors.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { gaussian, schema } from '../../codec/codec-cases.js'
import { runs } from '../../counts.js'

const { pairs, others } = factorsOf(schema)

/** B A of one pair, formed in full, row by row: the plain definition. */
function product(vector: Float32Array, index: number): number[] {
  const { a, b, rank, inFeatures, outFeatures } = pairs[index]!
  return Array.from({ length: outFeatures * inFeatures }, (_, cell) => {
    const [row, column] = [Math.floor(cell / inFeatures), cell % inFeatures]
    let sum = 0
    for (let k = 0; k < rank; k++)
      sum += vector[b.offset + row * rank + k]! * vector[a.offset + k * inFeatures + column]!
    return sum
  })
}

const norm = (values: readonly number[]): number => Math.hypot(...values)
const minus = (x: readonly number[], y: readonly number[]): number[] => x.map((value, i) => value - y[i]!)

/** The distance as its documentation defines it, from explicit products. */
function explicit(x: Float32Array, y: Float32Array, scaleOf: (rank: number) => number) {
  let products = 0
  let crosses = 0
  const middle = x.map((value, i) => (value + y[i]!) / 2)
  pairs.forEach(({ rank }, index) => {
    const [one, other, half] = [product(x, index), product(y, index), product(middle, index)]
    products += (scaleOf(rank) * norm(minus(one, other))) ** 2
    // mean(BA) - mean(B) mean(A)
    const cross = one.map((value, i) => (value + other[i]!) / 2 - half[i]!)
    crosses += (scaleOf(rank) * norm(cross)) ** 2
  })
  for (const { offset, size } of others) for (let i = offset; i < offset + size; i++) products += (x[i]! - y[i]!) ** 2
  return { distance: Math.sqrt(products) + 2 * Math.sqrt(crosses), crossTerm: Math.sqrt(crosses) }
}

describe('the distance in product space', () => {
  const scaleOf = (rank: number) => 16 / rank
  const measure = productDistance(schema, scaleOf)

  it('is that of the explicit products, cross term and all', () => {
    for (const seed of ['a', 'b', 'c']) {
      const [x, y] = [gaussian(schema.size, seed, 1), gaussian(schema.size, seed, 2)]
      const [got, want] = [measure(x, y), explicit(x, y, scaleOf)]
      expect(got.distance / want.distance).toBeCloseTo(1, 6)
      expect(got.crossTerm! / want.crossTerm).toBeCloseTo(1, 5)
    }
  })

  it('is good to many digits where the two are close', () => {
    const x = gaussian(schema.size, 'close')
    const y = x.map((value, i) => value * (1 + 1e-4 * Math.sin(i)))
    // Without the cross term, whose plain definition cancels to nothing here.
    const [got, want] = [measure(x, y), explicit(x, y, scaleOf)]
    expect((got.distance - 2 * got.crossTerm!) / (want.distance - 2 * want.crossTerm)).toBeCloseTo(1, 6)
  })

  it('is symmetric to the last bit, and zero from a vector to itself', () => {
    fc.assert(
      fc.property(fc.string(), (seed) => {
        const [x, y] = [gaussian(schema.size, seed, 'x'), gaussian(schema.size, seed, 'y')]
        expect(measure(x, y)).toEqual(measure(y, x))
        expect(measure(x, x)).toEqual({ distance: 0, crossTerm: 0, crossShare: 0 })
      }),
      { numRuns: runs(20) }
    )
  })

  it('is at least twice the way of the product when the factors meet half way', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(1, -1, 3), (seed, sign) => {
        const x = gaussian(schema.size, seed)
        const y = x.map((value, i) => sign * value + 0.1 * Math.cos(i))
        const middle = x.map((value, i) => (value + y[i]!) / 2)
        let moved = 0
        pairs.forEach(({ rank }, index) => {
          moved += (scaleOf(rank) * norm(minus(product(x, index), product(middle, index)))) ** 2
        })
        expect(measure(x, y).distance).toBeGreaterThan(2 * Math.sqrt(moved) * (1 - 1e-6))
      }),
      { numRuns: runs(20) }
    )
  })

  it('sees factors of the other sign although their product is the same', () => {
    const x = gaussian(schema.size, 'sign')
    const y = x.map((value, i) => (i < 240 ? -value : value))
    expect(minus(product(x, 0), product(y, 0)).every((value) => value === 0)).toBe(true)
    expect(measure(x, y).distance).toBeGreaterThan(scaleOf(4) * norm(product(x, 0)))
  })

  it('sees what factors within the usual range do together (gradient assembly)', () => {
    const x = gaussian(schema.size, 'benign')
    // Both factors as far away as another peer's, but pulling the product one way.
    const honest = gaussian(schema.size, 'honest').map((value, i) => x[i]! + 0.1 * value)
    const { a, b } = pairs[0]!
    const assembled = x.slice()
    for (let i = a.offset; i < a.offset + a.size; i++) assembled[i] = x[i]! + 0.1
    for (let i = b.offset; i < b.offset + b.size; i++) assembled[i] = x[i]! + 0.1
    expect(euclidean(x, assembled).distance).toBeLessThan(euclidean(x, honest).distance)
    expect(measure(x, assembled).distance).toBeGreaterThan(0)
  })

  it('is the Euclidean one where there are no factors', () => {
    const plain = createSchema([{ name: 'w', shape: [3, 4] }])
    const [x, y] = [gaussian(12, 'x'), gaussian(12, 'y')]
    expect(productDistance(plain, scaleOf)(x, y)).toEqual(euclidean(x, y))
  })
})
