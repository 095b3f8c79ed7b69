import { describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { float32ToHalf, fromHalf, HALF_MAX, HALF_MIN_POSITIVE, toHalf, toHalfRoundedUp } from '../../src/tensor/half.js'

const isNanPattern = (bits: number): boolean => (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0

/** Every finite non-negative binary16, in order. */
const finite = Array.from({ length: 0x7c00 }, (_, bits) => fromHalf(bits))

describe('binary16', () => {
  it('round-trips all 65,536 patterns', () => {
    const wrong: number[] = []
    for (let bits = 0; bits < 0x10000; bits++) {
      const back = toHalf(fromHalf(bits))
      if (isNanPattern(bits) ? !isNanPattern(back) : back !== bits) wrong.push(bits)
    }
    expect(wrong).toEqual([])
  })

  it.each([
    // IEEE 754-2019 binary16 and the worked examples of https://en.wikipedia.org/wiki/Half-precision_floating-point_format
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [0.333251953125, 0x3555],
    [1 / 3, 0x3555],
    [1.0009765625, 0x3c01],
    [HALF_MAX, 0x7bff],
    [2 ** -14, 0x0400],
    [1023 * 2 ** -24, 0x03ff],
    [HALF_MIN_POSITIVE, 0x0001],
    [Infinity, 0x7c00],
    [-Infinity, 0xfc00],
    [65519.996, 0x7bff],
    [65520, 0x7c00],
    [3.14159274, 0x4248],
    [0.1, 0x2e66]
  ])('codes %f as the known pattern', (value, bits) => {
    expect(toHalf(value)).toBe(bits)
  })

  it('breaks ties to even on both sides of every pair of neighbours', () => {
    const wrong: number[] = []
    for (let bits = 0; bits + 1 < finite.length; bits++) {
      const middle = (finite[bits]! + finite[bits + 1]!) / 2
      const even = bits % 2 === 0 ? bits : bits + 1
      if (toHalf(middle) !== even || toHalf(-middle) !== (even | 0x8000)) wrong.push(bits)
    }
    expect(wrong).toEqual([])
  })

  it('finds the nearest pattern just below and just above every middle', () => {
    const wrong: number[] = []
    for (let bits = 0; bits + 1 < finite.length; bits++) {
      const [low, high] = [finite[bits]!, finite[bits + 1]!]
      const middle = (low + high) / 2
      const hair = (high - low) / 2 ** 20
      if (toHalf(middle - hair) !== bits || toHalf(middle + hair) !== bits + 1) wrong.push(bits)
    }
    expect(wrong).toEqual([])
  })

  it('rounds once, not through float32', () => {
    // Just above the tie between 1 and 1 + 2^-10: float32 would first round it onto the tie, and then down.
    expect(toHalf(1 + 2 ** -11 + 2 ** -40)).toBe(0x3c01)
  })

  it('rounds up to the smallest pattern that is not below', () => {
    const rng = seededRng('half', 'up')
    for (let i = 0; i < 20_000; i++) {
      const value = rng.uniform() * 2 ** (rng.integer(46) - 28)
      const bits = toHalfRoundedUp(value)
      if (value > HALF_MAX) {
        expect(bits).toBe(0x7c00)
        continue
      }
      expect(fromHalf(bits)).toBeGreaterThanOrEqual(value)
      if (bits > 0) expect(fromHalf(bits - 1)).toBeLessThan(value)
    }
  })
})

describe('float32ToHalf', () => {
  const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!

  it('agrees with toHalf on every kind of finite float32', () => {
    const rng = seededRng('half', 'patterns')
    for (let i = 0; i < 50_000; i++) {
      const pattern = rng.uint32()
      const value = new Float32Array(Uint32Array.of(pattern).buffer)[0]!
      if (Number.isFinite(value)) expect(float32ToHalf(pattern)).toBe(toHalf(value))
    }
    // Around the range of binary16, where random patterns seldom fall, with ties.
    for (let i = 0; i < 50_000; i++) {
      const value = Math.fround(2 ** (rng.integer(50) - 30) * (1 + rng.integer(1 << 13) / (1 << 12)) * (i % 2 ? 1 : -1))
      expect(float32ToHalf(bitsOf(value))).toBe(toHalf(value))
    }
  })
})
