import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { AttackScene } from '../../../src/sim/attack/attacks.js'
import {
  alie,
  alieDeviations,
  dissensus,
  gaussianNoise,
  gradientAssembly,
  innerProduct,
  mimic,
  normalQuantile,
  signFlip
} from '../../../src/sim/attack/attacks.js'
import { balanceRadius, lossTest, ubarSelection } from '../../../src/consensus/rules/mixing-acceptance.js'
import type { NeighbourhoodRule } from '../../../src/consensus/rules/mixing-neighbourhood.js'
import {
  coordinateMedian,
  nearestNeighbourMixing,
  nnmTrimmedMean,
  trimmedMean
} from '../../../src/consensus/rules/mixing-neighbourhood.js'
import { factorsOf } from '../../../src/tensor/factors.js'
import { gaussian, schema } from '../../codec/codec-cases.js'

const v = (...values: readonly number[]): Float32Array => Float32Array.from(values)

describe('by hand', () => {
  const vectors = [v(1, 10), v(2, -4), v(3, 8), v(100, 6), v(-50, 5)]

  it('the trimmed mean drops the outermost of every coordinate', () => {
    expect([...trimmedMean(vectors, 1)]).toEqual([2, Math.fround(19 / 3)])
    expect([...trimmedMean(vectors, 2)]).toEqual([2, 6])
  })

  it('the median is the middle one, or half way between the middle two', () => {
    expect([...coordinateMedian(vectors, 2)]).toEqual([2, 6])
    expect([...coordinateMedian(vectors.slice(0, 4), 1)]).toEqual([2.5, 7])
  })

  it('nearest-neighbour mixing replaces each by the mean of those around it', () => {
    const line = [v(0), v(1), v(3), v(40)]
    // Three nearest of 0: 0, 1, 3; of 1: 1, 0, 3; of 3: 3, 1, 0; of 40: 40, 3, 1.
    expect(nearestNeighbourMixing(line, 1).map(([x]) => x)).toEqual([4 / 3, 4 / 3, 4 / 3, 44 / 3].map(Math.fround))
    expect([...nnmTrimmedMean(line, 1)]).toEqual([Math.fround(Math.fround(4 / 3))])
  })
})

const RULES: readonly (readonly [string, NeighbourhoodRule])[] = [
  ['trimmed mean', trimmedMean],
  ['median', coordinateMedian],
  ['NNM and trimmed mean', nnmTrimmedMean]
]

const neighbourhood = fc.tuple(fc.integer({ min: 3, max: 9 }), fc.integer({ min: 1, max: 4 })).chain(([n, size]) =>
  fc.array(fc.float32Array({ minLength: size, maxLength: size, noNaN: true, min: -100, max: 100 }), {
    minLength: n,
    maxLength: n
  })
)

describe.each(RULES)('%s', (_, rule) => {
  it('does not care about the order of the vectors', () => {
    fc.assert(
      fc.property(neighbourhood, fc.string(), (vectors, seed) => {
        const [one, other] = [rule(vectors, 1), rule(seededRng(seed).shuffle(vectors), 1)]
        one.forEach((value, i) => {
          expect(Math.abs(value - other[i]!)).toBeLessThan(1e-2)
        })
      })
    )
  })

  it('stays within the range of the honest, whatever one liar sends', () => {
    fc.assert(
      fc.property(neighbourhood, fc.float({ min: -1e6, max: 1e6, noNaN: true }), (honest, lie) => {
        const liar = honest[0]!.map(() => lie)
        const out = rule([...honest, liar], 1)
        const reach = Math.max(...honest.flatMap((vector) => [...vector].map(Math.abs)))
        // NNM is bounded by a multiple of the honest range, the others by the range itself.
        for (const value of out) expect(Math.abs(value)).toBeLessThan(4 * reach + 0.2)
      })
    )
  })

  it('refuses a majority of liars', () => {
    expect(() => rule([v(1), v(2)], 1)).toThrow(expect.objectContaining({ code: 'consensus/too-many-liars' }))
  })

  it('is translation equivariant', () => {
    fc.assert(
      fc.property(neighbourhood, (vectors) => {
        const moved = rule(
          vectors.map((vector) => vector.map((value) => value + 8)),
          1
        )
        rule(vectors, 1).forEach((value, i) => {
          expect(moved[i]! - 8).toBeCloseTo(value, 2)
        })
      })
    )
  })
})

describe('the trimmed mean', () => {
  it('is the mean for b = 0, and within the honest range in every coordinate otherwise', () => {
    fc.assert(
      fc.property(neighbourhood, (vectors) => {
        trimmedMean(vectors, 0).forEach((value, i) => {
          expect(value).toBeCloseTo(vectors.reduce((sum, vector) => sum + vector[i]!, 0) / vectors.length, 3)
        })
        const out = trimmedMean([...vectors, vectors[0]!.map(() => 1e9)], 1)
        out.forEach((value, i) => {
          expect(value).toBeLessThanOrEqual(Math.max(...vectors.map((vector) => vector[i]!)) + 1e-3)
          expect(value).toBeGreaterThanOrEqual(Math.min(...vectors.map((vector) => vector[i]!)) - 1e-3)
        })
      })
    )
  })
})

describe('acceptance', () => {
  it('BALANCE: within 0.3 exp(-t) of our own way', () => {
    expect(balanceRadius({}, { distanceFromStart: 10, progress: 0 })).toBeCloseTo(3, 12)
    expect(balanceRadius({}, { distanceFromStart: 10, progress: 0.5 })).toBeCloseTo(3 / Math.sqrt(Math.E), 12)
    expect(balanceRadius({ strictness: 2 }, { distanceFromStart: 10, progress: 1 })).toBeCloseTo(20 / Math.E, 12)
  })

  it('UBAR: of the nearest those that lose no more than we do, or the nearest', () => {
    const own = { distanceFromStart: 1, progress: 0, loss: 2 }
    const candidates = [
      { distance: 5, loss: 1 },
      { distance: 1, loss: 3 },
      { distance: 2, loss: 1.9 },
      { distance: 9, loss: 0.1 },
      { distance: 3, loss: 2 }
    ]
    expect(ubarSelection(own, candidates)).toEqual([2])
    expect(ubarSelection(own, candidates, 0.6)).toEqual([2, 4])
    expect(ubarSelection({ ...own, loss: 0.05 }, candidates)).toEqual([1])
    expect(ubarSelection(own, [])).toEqual([])
    expect(lossTest(own, { distance: 1 })).toBe(false)
  })
})

describe('attacks', () => {
  const scene: AttackScene = {
    own: v(3, 5),
    start: v(1, 1),
    victim: v(2, 2),
    honest: [v(2, 2), v(4, 8)],
    liars: 1,
    rng: seededRng('attack')
  }

  it('follow their formulas', () => {
    expect([...signFlip()(scene)]).toEqual([-1, -3])
    expect([...signFlip(10)(scene)]).toEqual([-19, -39])
    // Mean (3, 5), its way from the start (2, 4).
    expect([...innerProduct(0.5)(scene)]).toEqual([0, -1])
    expect([...alie(2)(scene)]).toEqual([1, -1])
    // The honest pull the victim by 2 * ((3, 5) - (2, 2)); one liar must make up for it 1.5 times.
    expect([...dissensus()(scene)]).toEqual([2 - 3, 2 - 9])
    expect([...mimic(1)(scene)]).toEqual([4, 8])
  })

  it('ALIE knows how far it may go: n = 50, m = 24 gives z = Phi^-1(24 / 26)', () => {
    expect(alieDeviations(50, 24)).toBeCloseTo(normalQuantile(24 / 26), 12)
    expect(normalQuantile(0.975)).toBeCloseTo(1.959964, 5)
    expect(normalQuantile(0.001)).toBeCloseTo(-3.090232, 5)
    expect(normalQuantile(0.5)).toBe(0)
  })

  it('noise has the deviation asked for', () => {
    const own = new Float32Array(20_000).fill(3)
    const noisy = gaussianNoise(2)({ ...scene, own })
    const variance = noisy.reduce((sum, value) => sum + (value - 3) ** 2, 0) / noisy.length
    expect(variance).toBeGreaterThan(3.8)
    expect(variance).toBeLessThan(4.2)
  })

  it('gradient assembly keeps each factor within reach and its product far out of it', () => {
    const start = gaussian(schema.size, 'start')
    const honest = [1, 2, 3].map((i) => gaussian(schema.size, 'honest', i).map((value, k) => start[k]! + 0.2 * value))
    const { pairs } = factorsOf(schema)
    const lie = gradientAssembly(pairs)({ ...scene, start, own: start, honest })
    const wayOf = (vector: Float32Array, { offset, size }: { offset: number; size: number }) =>
      Math.hypot(...Array.from({ length: size }, (_, i) => vector[offset + i]! - start[offset + i]!))
    for (const { a, b } of pairs)
      for (const entry of [a, b]) {
        const usual = honest.reduce((sum, vector) => sum + wayOf(vector, entry), 0) / honest.length
        expect(wayOf(lie, entry) / usual).toBeCloseTo(1, 5)
      }
  })
})
