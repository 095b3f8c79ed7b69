import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { createSampler, likeliest, probabilities } from '../../src/infer/sampler.js'

const logits = Float32Array.of(2, -1, 0.5, 3.25, 1.5, -0.25, 2.75, 0)

describe('probabilities', () => {
  /** TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper of transformers 5.18, then softmax. */
  it.each([
    [0.7, 0, 1, [0.0943251, 0.0012983, 0.0110661, 0.5625399, 0.0461761, 0.0037904, 0.2753867, 0.0054173]],
    [0.7, 3, 1, [0.1011799, 0, 0, 0.6034206, 0, 0, 0.2953995, 0]],
    [1.3, 0, 0.8, [0.1645554, 0, 0, 0.4304304, 0.1120149, 0, 0.2929993, 0]],
    [1.5, 5, 0.75, [0.2020326, 0, 0, 0.4648721, 0, 0, 0.3330954, 0]],
    [1, 0, 0.05, [0, 0, 0, 1, 0, 0, 0, 0]]
  ])('at temperature %f, top %i, nucleus %f are those of transformers', (temperature, topK, topP, expected) => {
    const found = probabilities(logits, { temperature, topK, topP })
    for (const [id, probability] of expected.entries()) expect(found[id]).toBeCloseTo(probability, 6)
  })

  it('sum to one, and keep the order of the logits', () => {
    const some = fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 40 })
    const options = fc.record({
      temperature: fc.double({ min: 0.05, max: 5, noNaN: true }),
      topK: fc.nat(50),
      topP: fc.double({ min: 0.01, max: 1, noNaN: true })
    })
    fc.assert(
      fc.property(some, options, (values, how) => {
        const found = probabilities(Float32Array.from(values), how)
        expect(found.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 9)
        expect(found[likeliest(Float32Array.from(values))]).toBe(Math.max(...found))
        if (how.topK > 0) expect(found.filter((value) => value > 0).length).toBeLessThanOrEqual(how.topK)
      })
    )
  })
})

describe('a sampler', () => {
  it('takes the likeliest at temperature 0, the first of equals', () => {
    const choose = createSampler({ temperature: 0, topK: 0, topP: 1 }, seededRng('unused'))
    expect(choose(logits)).toBe(3)
    expect(choose(Float32Array.of(1, 4, 4))).toBe(1)
  })

  it('draws as often as the probabilities say, and the same from the same seed', () => {
    const how = { temperature: 1.3, topK: 0, topP: 0.8 }
    const draw = (seed: string) => {
      const choose = createSampler(how, seededRng(seed))
      return Array.from({ length: 20_000 }, () => choose(logits))
    }
    const drawn = draw('one')
    const chances = probabilities(logits, how)
    for (const [id, chance] of chances.entries()) {
      const share = drawn.filter((one) => one === id).length / drawn.length
      // Five standard deviations of a share.
      expect(Math.abs(share - chance)).toBeLessThanOrEqual(5 * Math.sqrt((chance * (1 - chance)) / drawn.length))
    }
    expect(draw('one')).toEqual(drawn)
    expect(draw('other')).not.toEqual(drawn)
  })
})
