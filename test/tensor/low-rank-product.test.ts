import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { smallSvd } from '../../src/tensor/jacobi.js'
import { type SlotRows, truncateProduct } from '../../src/tensor/low-rank-product.js'
import { runs } from '../counts.js'

type Matrix = readonly (readonly number[])[]

const random = (seed: string, size: number, scale = 1): Float64Array => {
  const rng = seededRng(seed)
  return Float64Array.from({ length: size }, () => scale * (2 * rng.uniform() - 1))
}

const slots = (seed: string, [rank, inFeatures, outFeatures]: readonly [number, number, number]): SlotRows => ({
  rank,
  inFeatures,
  outFeatures,
  a: random(`${seed} a`, rank * inFeatures),
  b: random(`${seed} b`, rank * outFeatures)
})

/** B A in full: the plain definition. */
const dense = ({ a, b, rank, inFeatures, outFeatures }: SlotRows): Matrix =>
  Array.from({ length: outFeatures }, (_, o) =>
    Array.from({ length: inFeatures }, (_unused, i) => {
      let sum = 0
      for (let r = 0; r < rank; r++) sum += (b[r * outFeatures + o] as number) * (a[r * inFeatures + i] as number)
      return sum
    })
  )

const distance = (x: Matrix, y: Matrix): number =>
  Math.hypot(...x.flatMap((row, i) => row.map((value, j) => value - (y[i]?.[j] as number))))

const norm = (x: Matrix): number => Math.hypot(...x.flat())

/**
 * Singular values by the cyclic two-sided Jacobi method on M^T M (Golub & Van Loan, algorithm 8.5.2): another method than
 * that of the code.
 */
function singularValues(m: Matrix): number[] {
  const n = m[0]?.length ?? 0
  const s = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n }, (_unused, j) => m.reduce((sum, row) => sum + (row[i] as number) * (row[j] as number), 0))
  )
  const at = (i: number, j: number): number => s[i]?.[j] as number
  for (let sweep = 0; sweep < 40; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (at(p, q) === 0) continue
        const theta = 0.5 * Math.atan2(2 * at(p, q), at(q, q) - at(p, p))
        const [c, d] = [Math.cos(theta), Math.sin(theta)]
        for (const row of s)
          [row[p], row[q]] = [
            c * (row[p] as number) - d * (row[q] as number),
            d * (row[p] as number) + c * (row[q] as number)
          ]
        const [up, uq] = [s[p] as number[], s[q] as number[]]
        for (let k = 0; k < n; k++) {
          const [x, y] = [up[k] as number, uq[k] as number]
          up[k] = c * x - d * y
          uq[k] = d * x + c * y
        }
      }
  return Array.from({ length: n }, (_, i) => Math.sqrt(Math.max(0, at(i, i)))).sort((a, b) => b - a)
}

const result = (product: SlotRows, anchor: Pick<SlotRows, 'a' | 'rank'>) => {
  const made = truncateProduct(product, anchor)
  return { ...made, dense: dense({ ...product, ...made, rank: anchor.rank }) }
}

describe('a small singular value decomposition', () => {
  it.each([
    [3, 5],
    [4, 4],
    [6, 3],
    [1, 2]
  ])('of %d x %d takes a matrix apart into orthonormal vectors and falling values', (rows, columns) => {
    const m = random(`${rows} ${columns}`, rows * columns)
    const { values, left, right } = smallSvd(m, rows, columns)
    const again = m.map((_, at) => {
      let sum = 0
      for (let k = 0; k < rows; k++)
        sum +=
          (values[k] as number) *
          (left[k * rows + Math.floor(at / columns)] as number) *
          (right[k * columns + (at % columns)] as number)
      return sum
    })
    for (const [at, value] of again.entries()) expect(value).toBeCloseTo(m[at] as number, 12)
    expect([...values]).toEqual([...values].sort((x, y) => y - x))
    const expected = singularValues(
      Array.from({ length: rows }, (_, i) => [...m.slice(i * columns, (i + 1) * columns)])
    )
    for (const [k, value] of expected.slice(0, rows).entries()) expect(values[k]).toBeCloseTo(value, 6)
  })
})

describe('a product cut to a smaller rank', () => {
  const sizes = fc.record({
    rank: fc.integer({ min: 1, max: 6 }),
    keep: fc.integer({ min: 1, max: 5 }),
    inFeatures: fc.integer({ min: 2, max: 9 }),
    outFeatures: fc.integer({ min: 2, max: 9 }),
    seed: fc.string()
  })

  it('is as near as its singular values allow, whatever the anchor', () => {
    fc.assert(
      fc.property(sizes, ({ rank, keep, inFeatures, outFeatures, seed }) => {
        const product = slots(seed, [rank, inFeatures, outFeatures])
        const anchor = { a: random(`${seed} anchor`, keep * inFeatures), rank: keep }
        const made = result(product, anchor)
        const whole = dense(product)
        const rest = Math.hypot(...singularValues(whole).slice(keep))
        expect(Math.abs(distance(made.dense, whole) - rest)).toBeLessThan(1e-6 * norm(whole))
        expect(Math.abs(made.tail - rest)).toBeLessThan(1e-6 * norm(whole))
      }),
      { numRuns: runs(60) }
    )
  })

  it('of enough rank is the product itself, to 1e-6', () => {
    fc.assert(
      fc.property(sizes, ({ rank, inFeatures, outFeatures, seed }) => {
        const product = slots(seed, [rank, inFeatures, outFeatures])
        const anchor = slots(`${seed} other`, [rank, inFeatures, outFeatures])
        const made = result(product, anchor)
        expect(distance(made.dense, dense(product))).toBeLessThan(1e-6 * norm(dense(product)))
      }),
      { numRuns: runs(40) }
    )
  })

  it('with itself for an anchor does not move', () => {
    const product = slots('still', [3, 7, 5])
    const { a, b, tail } = truncateProduct(product, product)
    for (const [i, value] of a.entries()) expect(value).toBeCloseTo(product.a[i] as number, 10)
    for (const [i, value] of b.entries()) expect(value).toBeCloseTo(product.b[i] as number, 10)
    expect(tail).toBeLessThan(1e-10)
  })

  it('of nothing leaves the A of the anchor as it is, alive, and B zero', () => {
    const product = { ...slots('nothing', [4, 6, 5]), b: new Float64Array(20) }
    const anchor = slots('anchor', [2, 6, 5])
    const { a, b } = truncateProduct(product, anchor)
    expect(a).toEqual(anchor.a)
    expect(b.every((value) => value === 0)).toBe(true)
  })

  it('of less rank than the anchor keeps slots without an effect alive', () => {
    const product = slots('thin', [1, 8, 6])
    const anchor = slots('anchor', [4, 8, 6])
    const made = result(product, anchor)
    expect(distance(made.dense, dense(product))).toBeLessThan(1e-10)
    for (let slot = 0; slot < 4; slot++)
      expect(Math.hypot(...made.a.slice(slot * 8, (slot + 1) * 8))).toBeGreaterThan(0.3)
  })

  it('is well scaled where the anchor knows nothing of the directions it needs', () => {
    const product: SlotRows = {
      rank: 2,
      inFeatures: 4,
      outFeatures: 3,
      a: Float64Array.of(1, 0, 0, 0, 0, 2, 0, 0),
      b: random('b', 6)
    }
    for (const a of [
      Float64Array.of(0, 0, 1, 0, 0, 0, 0, 1),
      Float64Array.of(1, 0, 0, 0, 0, 0, 1, 0),
      new Float64Array(8)
    ]) {
      const made = result(product, { a, rank: 2 })
      expect(distance(made.dense, dense(product))).toBeLessThan(1e-9)
      expect(Math.hypot(...made.b)).toBeLessThan(30 * norm(dense(product)))
    }
  })
})
