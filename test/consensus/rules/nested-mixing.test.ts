import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { mixProducts, mixSlots, type Sized } from '../../../src/consensus/rules/nested-mixing.js'
import { factorsOf } from '../../../src/tensor/factors.js'
import { createSchema, type ParameterSchema } from '../../../src/tensor/schema.js'
import { nestedPart, slotCount, withSlots } from '../../../src/tensor/slots.js'
import { runs } from '../../counts.js'

const [IN, OUT] = [7, 5]
const schemaOf = (rank: number): ParameterSchema =>
  createSchema([
    { name: 'up.lora_A.weight', shape: [rank, IN] },
    { name: 'up.lora_B.weight', shape: [OUT, rank] },
    { name: 'down.lora_A.weight', shape: [rank, 3] },
    { name: 'down.lora_B.weight', shape: [4, rank] },
    { name: 'classifier.weight', shape: [2, 3] }
  ])

function peer(rank: number, seed: string): Sized {
  const schema = schemaOf(rank)
  const rng = seededRng(seed)
  return { schema, vector: Float32Array.from({ length: schema.size }, () => 2 * rng.uniform() - 1) }
}

const moved = ({ schema, vector }: Sized, step: Float32Array): Sized => ({
  schema,
  vector: vector.map((value, i) => value + (step[i] as number))
})

/** B A of one pair in full. */
function product({ schema, vector }: Sized, index: number): number[] {
  const pair = factorsOf(schema).pairs[index]
  if (pair === undefined) throw new Error('no such pair')
  const { a, b, rank, inFeatures, outFeatures } = pair
  return Array.from({ length: outFeatures * inFeatures }, (_, cell) => {
    const [row, column] = [Math.floor(cell / inFeatures), cell % inFeatures]
    let sum = 0
    for (let k = 0; k < rank; k++)
      sum += (vector[b.offset + row * rank + k] as number) * (vector[a.offset + k * inFeatures + column] as number)
    return sum
  })
}

const norm = (values: readonly number[]): number => Math.hypot(...values)
const apart = (x: readonly number[], y: readonly number[]): number => norm(x.map((v, i) => v - (y[i] as number)))

const pairs = fc.record({
  ranks: fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })),
  weights: fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 50 })),
  gamma: fc.constantFrom(1, 0.7),
  seed: fc.string()
})

describe('peers with different numbers of slots', () => {
  it('count their slots, and lie in one another', () => {
    expect(slotCount(schemaOf(3))).toBe(3)
    expect(withSlots(schemaOf(3), 5)).toEqual(schemaOf(5))
    const heads = createSchema([{ name: 'up.lora_core', shape: [4, 2, 2] }])
    expect(withSlots(heads, 3).entries[0]?.shape).toEqual([3, 2, 2])
    expect(withSlots(createSchema([{ name: 'up.lora_core', shape: [4, 4] }]), 3).entries[0]?.shape).toEqual([3, 3])
    expect(slotCount(createSchema([{ name: 'up.bias', shape: [4] }]))).toBeUndefined()
    const uneven = [...schemaOf(2).entries, { name: 'x.lora_A.weight', shape: [3, 4] }]
    expect(slotCount(createSchema(uneven))).toBeUndefined()
    expect(() => nestedPart(schemaOf(2), schemaOf(3))).toThrowError(
      expect.objectContaining({ code: 'tensor/not-nested' })
    )
  })

  it('a part is the first rows of A and the first columns of B', () => {
    const { schema, vector } = peer(3, 'whole')
    const part = nestedPart(schema, schemaOf(2))
    const taken = part.take(vector)
    const [, b] = schema.entries
    expect(taken.slice(0, 2 * IN)).toEqual(vector.slice(0, 2 * IN))
    const columns = Array.from({ length: OUT }, (_, o) => [0, 1].map((r) => vector[(b?.offset ?? 0) + 3 * o + r]))
    expect([...taken.slice(2 * IN, 2 * IN + 2 * OUT)]).toEqual(columns.flat())
    expect(part.take(part.expand(taken))).toEqual(taken)
  })

  it('keep the weighted mean of every slot over those that have it', () => {
    fc.assert(
      fc.property(pairs, ({ ranks: [r, s], weights: [u, v], gamma, seed }) => {
        const [one, other] = [peer(r, `${seed} one`), peer(s, `${seed} other`)]
        const rho = (own: number, theirs: number): number => (gamma * theirs) / (own + theirs)
        const first = mixSlots(one, other, rho(u, v)).increment
        const second = mixSlots(other, one, rho(v, u)).increment
        const common = schemaOf(Math.min(r, s))
        const [x, y] = [nestedPart(one.schema, common), nestedPart(other.schema, common)]
        const [a, b] = [x.take(first), y.take(second)]
        const drift = Math.max(...a.map((step, i) => Math.abs(u * step + v * (b[i] as number))))
        expect(drift).toBeLessThan(1e-4)
        // And what only one has stays as it is.
        for (const [part, step] of [
          [x, first],
          [y, second]
        ] as const)
          expect(
            step.map((value, i) => value - (part.expand(part.take(step))[i] as number)).every((d) => d === 0)
          ).toBe(true)
        // A pair that goes the whole way meets.
        if (gamma === 1) {
          const [p, q] = [x.take(moved(one, first).vector), y.take(moved(other, second).vector)]
          expect(Math.max(...p.map((value, i) => Math.abs(value - (q[i] as number))))).toBeLessThan(1e-5)
        }
      })
    )
  })

  it('in product space, come to the mean of what both do where the rank suffices', () => {
    fc.assert(
      fc.property(pairs, ({ ranks: [r, s], seed }) => {
        // As many slots as both together have directions.
        const one = peer(r + s, `${seed} one`)
        const other = peer(s, `${seed} other`)
        for (const { b, rank, outFeatures } of factorsOf(one.schema).pairs)
          for (let o = 0; o < outFeatures; o++) for (let k = r; k < rank; k++) one.vector[b.offset + o * rank + k] = 0
        const { increment, tail } = mixProducts(one, other, 0.3)
        const after = moved(one, increment)
        for (const index of [0, 1]) {
          const mean = product(one, index).map((value, i) => 0.7 * value + 0.3 * (product(other, index)[i] as number))
          expect(apart(product(after, index), mean)).toBeLessThan(1e-6 * Math.max(1, norm(mean)))
        }
        expect(tail).toBeLessThan(1e-5)
      }),
      { numRuns: runs(40) }
    )
  })

  it('in product space, are never farther from that mean than zero padding is', () => {
    fc.assert(
      fc.property(pairs, ({ ranks: [r, s], seed }) => {
        const [one, other] = [peer(r, `${seed} one`), peer(s, `${seed} other`)]
        const rho = 0.4
        const cut = moved(one, mixProducts(one, other, rho).increment)
        // HetLoRA: factors padded with zeros to the larger rank, averaged, and cut to the first slots of ours.
        const large = schemaOf(Math.max(r, s))
        const [x, y] = [nestedPart(large, one.schema), nestedPart(large, other.schema)]
        const [p, q] = [x.expand(one.vector), y.expand(other.vector)]
        const padded = {
          schema: one.schema,
          vector: x.take(p.map((value, i) => (1 - rho) * value + rho * (q[i] as number)))
        }
        for (const index of [0, 1]) {
          const theirs = product(other, index)
          const mean = product(one, index).map((value, i) => (1 - rho) * value + rho * (theirs[i] as number))
          expect(apart(product(cut, index), mean)).toBeLessThanOrEqual(apart(product(padded, index), mean) + 1e-5)
        }
      })
    )
  })

  it('of equal rank come to the same bits in product space, and do not move when they agree', () => {
    const [one, other] = [peer(3, 'one'), peer(3, 'other')]
    const first = moved(one, mixProducts(one, other, 0.5).increment)
    const second = moved(other, mixProducts(other, one, 0.5).increment)
    for (const [i, value] of first.vector.entries()) expect(value).toBeCloseTo(second.vector[i] as number, 5)
    const again = mixProducts(one, one, 0.5)
    expect(again.increment.every((step) => Math.abs(step) < 1e-6)).toBe(true)
  })
})
