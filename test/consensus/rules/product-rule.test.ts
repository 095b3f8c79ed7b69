import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { productDistance } from '../../../src/consensus/rules/distance.js'
import { pairwiseMean } from '../../../src/consensus/rules/mixing.js'
import { mixProducts } from '../../../src/consensus/rules/nested-mixing.js'
import { productAbove } from '../../../src/consensus/rules/product-rule.js'
import { createSchema } from '../../../src/tensor/schema.js'

const [RANK, IN, OUT] = [2, 6, 5]
const schema = createSchema([
  { name: 'up.lora_A.weight', shape: [RANK, IN] },
  { name: 'up.lora_B.weight', shape: [OUT, RANK] }
])
const vector = (seed: string): Float32Array => {
  const rng = seededRng(seed)
  return Float32Array.from({ length: schema.size }, () => 2 * rng.uniform() - 1)
}
const measure = productDistance(schema, () => 3)

/** mean(BA) and mean(B) mean(A) in full, row by row. */
function products(x: Float32Array, y: Float32Array) {
  const product = (v: Float32Array): number[] =>
    Array.from({ length: OUT * IN }, (_, cell) => {
      const [o, i] = [Math.floor(cell / IN), cell % IN]
      let sum = 0
      for (let r = 0; r < RANK; r++) sum += (v[RANK * IN + o * RANK + r] as number) * (v[r * IN + i] as number)
      return sum
    })
  const [p, q] = [product(x), product(y)]
  const mean = p.map((value, i) => (value + (q[i] as number)) / 2)
  return { mean, ofMeans: product(x.map((value, i) => (value + (y[i] as number)) / 2)) }
}

describe('products above a measured cross term', () => {
  const [one, other] = [vector('one'), vector('other')]
  const input = { own: one, partner: other, ownWeight: 3, partnerWeight: 5, gamma: 1 }
  const { mean, ofMeans } = products(one, other)
  const share = Math.hypot(...mean.map((value, i) => value - (ofMeans[i] as number))) / Math.hypot(...mean)

  it('the share is what averaging factors leaves out of the mean product', () => {
    expect(measure(one, other).crossShare).toBeCloseTo(share, 6)
    expect(measure(other, one).crossShare).toBe(measure(one, other).crossShare)
    expect(share).toBeGreaterThan(0.2)
    const frozen = other.slice()
    frozen.set(one.subarray(0, RANK * IN))
    expect(measure(one, frozen).crossShare).toBe(0)
    expect(measure(new Float32Array(schema.size), new Float32Array(schema.size)).crossShare).toBe(0)
  })

  it('below it factors are averaged, above it products', () => {
    const below = productAbove(schema, measure, 1.01 * share)
    const above = productAbove(schema, measure, 0.99 * share)
    expect(below(input)).toEqual(pairwiseMean(input))
    const expected = mixProducts({ vector: one, schema }, { vector: other, schema }, 5 / 8).increment
    expect(above(input)).toEqual(expected)
    expect(above(input)).not.toEqual(below(input))
  })
})
