import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { rankSlotsCodec } from '../../../src/codec/coders/rank-slots.js'
import { codecByName } from '../../../src/codec/registry.js'
import { riceDecode, riceEncode, riceMostBytes } from '../../../src/codec/coders/rice.js'
import { largestMagnitudes } from '../../../src/codec/coders/select.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { accepted, codeOf, gaussian, schema, through } from '../codec-cases.js'

/** A random set of k of n. */
const subset = (n: number, k: number, ...seed: (string | number)[]): Uint32Array => {
  const rng = seededRng('subset', ...seed)
  const taken = new Set<number>()
  while (taken.size < k) taken.add(rng.integer(n))
  return Uint32Array.from(taken).sort()
}

const entropyBits = (p: number): number => -(p * Math.log2(p) + (1 - p) * Math.log2(1 - p)) / p

describe('Rice-coded indices', () => {
  it.each([0.001, 0.005, 0.01, 0.0138, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5])(
    'a share of %d costs within 5 %% of its entropy',
    (p) => {
      const n = 400_000
      const indices = subset(n, Math.round(p * n), p)
      const bits = (8 * riceEncode(indices, n).length) / indices.length
      expect(bits).toBeLessThan(1.05 * entropyBits(p))
      expect(bits).toBeGreaterThan(0.995 * entropyBits(p))
    }
  )

  it('come back, within the promised bytes, however they are spread', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(5000), { maxLength: 300 }), fc.nat(1000), (list, more) => {
        const indices = Uint32Array.from(list).sort()
        const range = (indices.at(-1) ?? 0) + 1 + more
        const bytes = riceEncode(indices, range)
        expect(bytes.length).toBeLessThanOrEqual(1 + riceMostBytes(indices.length, range))
        const back = riceDecode(bytes, indices.length, range)
        expect(back).toEqual({ ok: true, value: { indices, bytes: bytes.length } })
      })
    )
  })

  it('pins its bits: gaps 5, 0 and 2 with the parameter 1', () => {
    // Lowest bit first: 5 is 110 and 1, 0 is 0 and 0, 2 is 10 and 0.
    const result = riceDecode(Uint8Array.of(1, 0b0100_1011, 0b0), 3, 20)
    expect(result).toEqual({ ok: true, value: { indices: Uint32Array.of(5, 6, 9), bytes: 3 } })
    expect([...riceEncode(Uint32Array.of(5, 6, 9), 20)].length).toBeLessThanOrEqual(3)
  })

  it.each([
    ['a parameter beyond 31', [32, 0], 1, 10, 'codec/malformed'],
    ['no parameter', [], 1, 10, 'codec/malformed'],
    ['an index beyond the range', [0, 0xff, 0xff], 1, 10, 'codec/malformed'],
    ['bits that run out', [3, 0], 3, 1000, 'codec/truncated'],
    ['padding that is not zero', [0, 0b1111_0000], 1, 10, 'codec/malformed']
  ] as const)('refuses %s', (_, bytes, count, range, code) => {
    expect(codeOf(riceDecode(Uint8Array.from(bytes), count, range))).toBe(code)
  })
})

describe('the largest magnitudes', () => {
  it('are those a full sort finds, the first of equal ones, without zeros', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.integer({ min: -3, max: 3 })), {
          minLength: 1,
          maxLength: 300
        }),
        fc.integer({ min: 1, max: 300 }),
        (list, k) => {
          const vector = Float32Array.from(list)
          const sorted = [...vector.keys()]
            .filter((i) => vector[i] !== 0)
            .sort((i, j) => Math.abs(vector[j]!) - Math.abs(vector[i]!) || i - j)
          const expected = sorted.slice(0, k).sort((i, j) => i - j)
          expect([...largestMagnitudes(vector, k)]).toEqual(expected)
          // A long vector is not sorted but counted.
          const long = new Float32Array(2_000)
          long.set(vector, 1_500)
          expect([...largestMagnitudes(long, k)]).toEqual(expected.map((index) => index + 1_500))
        }
      )
    )
  })
})

describe('top-k', () => {
  it('refuses more elements than the federation agreed on before it makes room for them', () => {
    const codec = codecByName('topk', { fraction: 0.1 })
    const bytes = codecByName('topk', { fraction: 0.2 }).encode(gaussian(1000, 'many'), seededRng('x'))
    expect(codeOf(codec.decode(bytes, 1000))).toBe('codec/malformed')
    const huge = new Uint8Array(20)
    huge.fill(0xff, 0, 4)
    expect(codeOf(codec.decode(huge, 1000))).toBe('codec/malformed')
  })

  it.each([
    ['topk', 0.1, 0.159],
    ['topk-int4', 0.1, 0.109],
    ['topk', 0.01, 0.02],
    ['topk-int4', 0.01, 0.0153]
  ] as const)('%s of a share of %d costs %d bytes a parameter', (name, fraction, most) => {
    const vector = gaussian(1 << 18, name)
    const bytes = codecByName(name, { fraction }).encode(vector, seededRng('bytes')).length
    expect(bytes / vector.length).toBeLessThan(1.02 * most)
  })

  it('sends fewer where fewer are not zero', () => {
    const vector = new Float32Array(1000)
    vector[17] = 3
    vector[400] = -0.5
    const codec = codecByName('topk')
    expect(codec.encode(vector, seededRng('few')).length).toBeLessThan(16)
    expect(through(codec, vector)[17]).toBeCloseTo(3, 1)
  })
})

describe('rank slots', () => {
  const codec = rankSlotsCodec({ schema, values: codecByName('float32'), fraction: 0.2 })
  const [a, b] = schema.entries

  it('sends whole slots: a row of A with its column of B', () => {
    const change = gaussian(schema.size, 'slots')
    const back = accepted(codec.decode(codec.encode(change, seededRng('x'), gaussian(schema.size, 'ref')), schema.size))
    for (let slot = 0; slot < 4; slot++) {
      const row = viewOf(back, a!).subarray(30 * slot, 30 * slot + 30)
      const column = viewOf(back, b!).filter((_, i) => i % 4 === slot)
      const sent = [...row, ...column].map((value) => value !== 0)
      expect(new Set(sent).size).toBe(1)
    }
    expect(back.filter((value) => value !== 0).length).toBeLessThanOrEqual(0.2 * schema.size)
  })

  it('takes the slot that changes the product most, not the one that moves farthest', () => {
    const reference = new Float32Array(schema.size)
    const change = new Float32Array(schema.size)
    // Slot 1: B moves a little, against a large row of A. Slot 2: B moves more, against nothing.
    viewOf(reference, a!).fill(5, 30, 60)
    viewOf(change, b!).set([0, 0.5, 2, 0])
    const back = accepted(codec.decode(codec.encode(change, seededRng('x'), reference), schema.size))
    expect([...viewOf(back, b!).subarray(0, 4)]).toEqual([0, 0.5, 0, 0])
  })

  it('refuses more slots than agreed', () => {
    const many = new Uint8Array(codec.encodedBytes(schema.size))
    many[0] = 0xff
    expect(codeOf(codec.decode(many, schema.size))).toBe('codec/malformed')
  })
})
