import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import type { CodecName } from '../../src/codec/codec.js'
import { CODEC_NAMES, codecByName, defaultGamma, isCodecName } from '../../src/codec/registry.js'
import { distance2, norm2 } from '../../src/tensor/linear.js'
import { accepted, CASES, codeOf, gaussian, schema, through, vectorsOf } from './codec-cases.js'

const VERDICT = /^codec\/(not-finite|malformed|wrong-length|truncated)$/

/** E[decode(encode(v))] = v. */
const UNBIASED: readonly CodecName[] = ['int8', 'int4']

/** ||v - Q(v)||^2 <= bound * ||v||^2 for every vector, where that holds at all; the derivations are in codecs' docs. */
const CONTRACTION: Partial<Record<CodecName, number>> = {
  float32: 0,
  // 2^-22, and half the smallest binary16 for each element near zero.
  float16: 2 ** -22,
  // A block of one largest element m and 255 just short of half a step: 255 / (4 L^2) over 1 + that.
  'int8-edge': 255 / (4 * 127 ** 2) / (1 + 255 / (4 * 127 ** 2)),
  'int4-edge': 255 / (4 * 7 ** 2) / (1 + 255 / (4 * 7 ** 2)),
  // ||v||_1^2 >= ||v||_2^2, so a block of 256 keeps at least one part in 256.
  sign: 1 - 1 / 256,
  'sign-edge': 1 - 1 / 256,
  'rank-slots-edge': 1,
  'rank-slots': 1,
  powergossip: 1
}

describe.each(CASES)('every codec: $name', (one) => {
  const { codec, name, size } = one
  const vectors = vectorsOf(one)

  it('gives back as many elements as went in, in no more bytes than it promised', () => {
    fc.assert(
      fc.property(vectors, fc.string(), (vector, seed) => {
        const bytes = codec.encode(vector, seededRng(seed))
        if (codec.variableLength) expect(bytes.length).toBeLessThanOrEqual(codec.encodedBytes(vector.length))
        else expect(bytes.length).toBe(codec.encodedBytes(vector.length))
        expect(accepted(codec.decode(bytes, vector.length)).length).toBe(vector.length)
      })
    )
  })

  it('decodes what it sent to something it sends again unchanged in length', () => {
    const vector = gaussian(size, name)
    const once = through(codec, vector)
    expect(codec.encode(once, seededRng('again')).length).toBeLessThanOrEqual(codec.encodedBytes(size))
  })

  it('writes the same bytes for the same seed', () => {
    const vector = Float32Array.from({ length: size }, (_, i) => Math.sin(i) * 3)
    expect(codec.encode(vector, seededRng('a', 7))).toEqual(codec.encode(vector, seededRng('a', 7)))
  })

  it('decodes from the middle of a larger buffer, and codes a part of a larger vector', () => {
    const vector = gaussian(size + 3, name, 'view').subarray(2, size + 2)
    const bytes = codec.encode(vector, seededRng('view'))
    expect(codec.encode(vector.slice(), seededRng('view'))).toEqual(bytes)
    const padded = new Uint8Array(bytes.length + 7)
    padded.set(bytes, 3)
    expect(accepted(codec.decode(padded.subarray(3, 3 + bytes.length), size))).toEqual(
      accepted(codec.decode(bytes, size))
    )
  })

  it('throws on our own NaN and infinities', () => {
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      const vector = gaussian(size, 'bad')
      vector[size - 1] = bad
      expect(() => codec.encode(vector, seededRng('bad'))).toThrow(
        expect.objectContaining({ code: 'codec/not-finite' })
      )
    }
  })

  it('codes zeros as zeros', () => {
    expect(through(codec, new Float32Array(size)).every((value) => value === 0)).toBe(true)
  })

  it('gives a verdict on any bytes, and finite numbers where it accepts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(600), (bytes, count) => {
        const result = codec.decode(bytes, count)
        if (result.ok) expect(result.value.every(Number.isFinite)).toBe(true)
        else expect(codeOf(result)).toMatch(VERDICT)
      }),
      { numRuns: 300 }
    )
  })

  it('gives a verdict on right-sized random bytes', () => {
    fc.assert(
      fc.property(one.sizes, fc.string(), (count, seed) => {
        const rng = seededRng(seed)
        const bytes = Uint8Array.from({ length: codec.encodedBytes(count) }, () => rng.integer(256))
        const result = codec.decode(bytes, count)
        if (result.ok) expect(result.value.every(Number.isFinite)).toBe(true)
        else expect(codeOf(result)).toMatch(VERDICT)
      })
    )
  })

  it('gives a verdict on a payload with a few bytes changed', () => {
    const good = codec.encode(gaussian(size, 'good'), seededRng('good'))
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 5 }), (changes) => {
        const bytes = good.slice()
        for (const [at, value] of changes) bytes[at] = value
        const result = codec.decode(bytes, size)
        if (result.ok) expect(result.value.every(Number.isFinite)).toBe(true)
        else expect(codeOf(result)).toMatch(VERDICT)
      }),
      { numRuns: 500 }
    )
  })

  it('refuses every truncation and one byte too many', () => {
    const bytes = codec.encode(gaussian(size, 'cut'), seededRng('cut'))
    for (let length = 0; length < bytes.length; length++)
      expect(codeOf(codec.decode(bytes.subarray(0, length), size))).toMatch(VERDICT)
    expect(codeOf(codec.decode(Uint8Array.of(...bytes, 0), size))).toMatch(VERDICT)
  })

  it('never moves a vector away: the error is within its bound for any vector', () => {
    const bound = codec.name.startsWith('topk') ? 1 : CONTRACTION[name]
    // Unbiased rounding is no contraction: a block of small elements beside one large one may err by more than itself.
    if (bound === undefined) return expect(UNBIASED).toContain(name)
    fc.assert(
      fc.property(vectors, (vector) => {
        const error = distance2(vector, through(codec, vector))
        // Scales and values are rounded to binary16; tiny ones to its subnormals.
        const slack = 1e-3 * norm2(vector) + 2 ** -24 * Math.sqrt(vector.length)
        expect(error).toBeLessThanOrEqual(Math.sqrt(bound) * norm2(vector) + slack)
      })
    )
  })
})

describe.each(UNBIASED)('the unbiased codec %s', (name) => {
  it('approaches the vector in the mean of many codings', () => {
    const codec = codecByName(name)
    const vector = gaussian(300, 'unbiased')
    const trials = 2000
    const sums = new Float64Array(vector.length)
    for (let trial = 0; trial < trials; trial++)
      through(codec, vector, trial).forEach((value, i) => {
        sums[i]! += value
      })
    // A rounding has variance at most step^2 / 4: six deviations of the mean, over 300 elements.
    const step = Math.max(...vector.map(Math.abs)) / (name === 'int8' ? 127 : 7)
    vector.forEach((value, i) => {
      expect(Math.abs(sums[i]! / trials - value)).toBeLessThan((6 * step) / 2 / Math.sqrt(trials))
    })
  })
})

/** ||v - Q(v)||^2 / ||v||^2 of Gaussian vectors, by theory: what a coder must not be worse than. */
describe('the error on a Gaussian vector', () => {
  const errorOf = (name: CodecName): number => {
    const codec = codecByName(name, { schema })
    const vector = gaussian(65_536, 'error')
    return (distance2(vector, through(codec, vector)) / norm2(vector)) ** 2
  }

  it('of sign and scale is 1 - 2/pi', () => {
    expect(errorOf('sign')).toBeCloseTo(1 - 2 / Math.PI, 1)
  })

  it('of rounding is step^2 / 6 stochastic and step^2 / 12 nearest, with steps of absmax / levels', () => {
    // The largest of 256 Gaussians is 2.96 on average, its square 8.95.
    for (const [stochastic, nearest, levels] of [
      ['int8', 'int8-edge', 127],
      ['int4', 'int4-edge', 7]
    ] as const) {
      const step2 = 8.95 / levels ** 2
      expect(errorOf(stochastic)).toBeGreaterThan((0.9 * step2) / 6)
      expect(errorOf(stochastic)).toBeLessThan((1.1 * step2) / 6)
      expect(errorOf(nearest)).toBeGreaterThan((0.9 * step2) / 12)
      expect(errorOf(nearest)).toBeLessThan((1.1 * step2) / 12)
    }
  })

  it('of the largest tenth is 1 - 0.4386, its share of the energy', () => {
    // For |z| > 1.6449: 2 (1.6449 phi(1.6449) + 0.05) = 0.43926.
    expect(errorOf('topk')).toBeCloseTo(1 - 0.4393, 2)
  })
})

describe('the registry', () => {
  it('knows its names and no others', () => {
    expect(isCodecName('int8')).toBe(true)
    expect(isCodecName('toString')).toBe(false)
    expect(isCodecName('int2')).toBe(false)
    for (const name of CODEC_NAMES) expect(codecByName(name, { schema }).name).toBe(name)
  })

  it('says what is missing', () => {
    expect(() => codecByName('powergossip')).toThrow(expect.objectContaining({ code: 'codec/needs-schema' }))
    expect(() => codecByName('topk', { fraction: 0.6 })).toThrow(
      expect.objectContaining({ code: 'codec/bad-fraction' })
    )
  })

  it('steps less where less is sent', () => {
    expect(defaultGamma('int8')).toBe(1)
    expect(defaultGamma('int4-edge')).toBe(0.9)
    expect(defaultGamma('topk-edge')).toBe(0.2)
    expect(defaultGamma('topk-edge', 0.25)).toBe(0.5)
    expect(defaultGamma('rank-slots-edge', 0.05)).toBe(0.05)
  })
})
