import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { CodecVerdictCode } from '../../../src/codec/codec.js'
import { INT8_BLOCK, INT8_MAX_MAGNITUDE, int8Codec } from '../../../src/codec/coders/int8.js'
import { codecByName } from '../../../src/codec/registry.js'
import type { Decoded } from '../../../src/base/verdict.js'
import { fromHalf } from '../../../src/tensor/half.js'

const accepted = <T>(result: Decoded<T, CodecVerdictCode>): T => {
  if (!result.ok) throw new Error(JSON.stringify(result.verdict))
  return result.value
}

const codeOf = (result: Decoded<unknown, CodecVerdictCode>): string | undefined =>
  result.ok || result.verdict.verdict === 'accept' ? undefined : result.verdict.code

const through = (vector: Float32Array, seed: string | number = 'seed'): Float32Array =>
  accepted(int8Codec.decode(int8Codec.encode(vector, seededRng(seed)), vector.length))

const vectors = fc.float32Array({ maxLength: 700, noNaN: true, min: -1e6, max: 1e6 })

describe('float32', () => {
  const codec = codecByName('float32')

  it('is exact, signed zero and denormals included', () => {
    fc.assert(
      fc.property(fc.float32Array({ noNaN: true, noDefaultInfinity: true }), (vector) => {
        const bits = (values: Float32Array) => [...new Uint32Array(values.slice().buffer)]
        expect(bits(accepted(codec.decode(codec.encode(vector, seededRng('x')), vector.length)))).toEqual(bits(vector))
      })
    )
  })

  it('is little-endian IEEE 754', () => {
    expect([...codec.encode(Float32Array.of(0.5, -3), seededRng('x'))]).toEqual([0, 0, 0, 0x3f, 0, 0, 0x40, 0xc0])
  })

  it('refuses a NaN from a peer', () => {
    expect(codeOf(codec.decode(Uint8Array.of(0, 0, 0xc0, 0x7f), 1))).toBe('codec/not-finite')
    expect(codeOf(codec.decode(Uint8Array.of(0, 0, 0x80, 0xff), 1))).toBe('codec/not-finite')
  })
})

describe('int8', () => {
  it('never codes beyond its levels, however close to 1 the draws are', () => {
    const highest = { ...seededRng('unused'), fill: (out: Uint32Array) => void out.fill(0xffff_ffff) }
    const magnitudes = fc.array(fc.float({ noNaN: true, min: 0, max: Math.fround(1e6) }), {
      minLength: 1,
      maxLength: 300
    })
    fc.assert(
      fc.property(magnitudes, (values) => {
        const vector = Float32Array.from(values, (value, i) => (i % 2 === 0 ? value : -value))
        const bytes = int8Codec.encode(vector, highest)
        const codes = new Int8Array(bytes.buffer, bytes.byteOffset + 2 * Math.ceil(vector.length / 256), vector.length)
        // An Int8Array wraps: a code of 128 would be -128, which is never written.
        expect(codes.every((code, i) => code !== -128 && Math.sign(code) * vector[i]! >= 0)).toBe(true)
      })
    )
  })

  it('costs 1.008 bytes a parameter', () => {
    expect(int8Codec.encodedBytes(256 * 1000) / (256 * 1000)).toBeCloseTo(1 + 2 / 256, 12)
    expect(int8Codec.encodedBytes(257)).toBe(257 + 4)
    expect(int8Codec.encodedBytes(0)).toBe(0)
  })

  it('pins its bytes: scale 3/127 rounded up, then the codes', () => {
    // 3 / 127 = 0.0236220 lies between the neighbours 0x260c = 0.0236206 and 0x260d = 0.0236359; 3 / 0x260d = 126.93.
    expect(fromHalf(0x260c)).toBeLessThan(3 / 127)
    expect(fromHalf(0x260d)).toBeGreaterThan(3 / 127)
    const bytes = int8Codec.encode(Float32Array.of(3, -3, 0), seededRng('golden'))
    expect([...bytes]).toEqual([0x0d, 0x26, 127, 256 - 126, 0])
  })

  it('errs by less than one step of the block', () => {
    fc.assert(
      fc.property(vectors, fc.string(), (vector, seed) => {
        const back = through(vector, seed)
        for (let start = 0; start < vector.length; start += INT8_BLOCK) {
          const block = vector.subarray(start, start + INT8_BLOCK)
          const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
          // The scale is rounded up by at most 2^-10 of itself, or by the spacing of the smallest binary16.
          const step = (largest / 127) * (1 + 2 ** -10) + 2 ** -24
          block.forEach((value, i) => {
            expect(Math.abs(back[start + i]! - value)).toBeLessThanOrEqual(step)
          })
        }
      })
    )
  })

  it('is unbiased: the mean of many codings approaches the vector', () => {
    const rng = seededRng('unbiased')
    const vector = Float32Array.from({ length: 300 }, (_, i) => (rng.uniform() - 0.5) * (i < 256 ? 2 : 1e-6))
    const trials = 4000
    const sums = new Float64Array(vector.length)
    for (let trial = 0; trial < trials; trial++) {
      through(vector, trial).forEach((value, i) => {
        sums[i] = sums[i]! + value
      })
    }
    // A rounding has variance at most step^2 / 4: six deviations of the mean, over 300 elements.
    const bound = (step: number) => (6 * step) / 2 / Math.sqrt(trials)
    vector.forEach((value, i) => {
      const step = i < 256 ? (1 / 127) * 1.002 : 2 ** -24
      expect(Math.abs(sums[i]! / trials - value)).toBeLessThan(bound(step))
    })
    // The bias summed over a block must vanish too, not only element by element.
    const bias = vector.subarray(0, 256).reduce((sum, value, i) => sum + (sums[i]! / trials - value), 0)
    expect(Math.abs(bias)).toBeLessThan(bound(1 / 127) * 16)
  })

  it('mirrors: the largest elements of a block are exact to the scale and never clipped', () => {
    const back = through(Float32Array.of(5, -5, 0.3))
    expect(back[0]).toBe(-back[1]!)
    expect(back[0]).toBeGreaterThan(5 * (1 - 1 / 127))
  })

  it('codes a block of zeros as zeros and draws nothing for it', () => {
    const rng = seededRng('zeros')
    const before = rng.state()
    const bytes = int8Codec.encode(new Float32Array(600), rng)
    expect(bytes.every((byte) => byte === 0)).toBe(true)
    expect(rng.state()).toEqual(before)
  })

  it('keeps denormals unbiased instead of losing them to a zero scale', () => {
    const tiny = 1e-9
    const trials = 20_000
    const vector = new Float32Array(trials).fill(tiny)
    const sum = through(vector).reduce((total, value) => total + value, 0)
    // Each element is 2^-24 with probability tiny / 2^-24 = 0.0168, else 0.
    const deviation = 2 ** -24 * Math.sqrt(trials * 0.0168)
    expect(Math.abs(sum - trials * tiny)).toBeLessThan(6 * deviation)
    expect(through(Float32Array.of(1e-45))[0]).toBe(0)
  })

  it('codes up to the range of its scale and refuses beyond', () => {
    expect(through(Float32Array.of(INT8_MAX_MAGNITUDE, 1))[0]).toBe(INT8_MAX_MAGNITUDE)
    expect(() => int8Codec.encode(Float32Array.of(1, -1e7), seededRng('x'))).toThrow(
      expect.objectContaining({ code: 'codec/out-of-range' })
    )
  })

  it.each([
    ['an infinite scale', [0x00, 0x7c, 1], 'codec/not-finite'],
    ['a NaN scale', [0x01, 0x7c, 1], 'codec/not-finite'],
    ['a negative scale', [0x00, 0xbc, 1], 'codec/malformed'],
    ['the code -128', [0x00, 0x3c, 0x80], 'codec/malformed']
  ])('refuses %s', (_, bytes, code) => {
    expect(codeOf(int8Codec.decode(Uint8Array.from(bytes), 1))).toBe(code)
  })
})
