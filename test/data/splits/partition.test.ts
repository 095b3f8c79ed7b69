import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { dealClasses, dirichlet, gamma, partition, type PartitionScheme } from '../../../src/data/splits/partition.js'
import { runs } from '../../counts.js'

const labels = Array.from({ length: 600 }, (_, i) => i % 10)
const classesOf = (share: readonly number[]) => new Set(share.map((i) => labels[i]))

describe('partitions', () => {
  it('deal every example to exactly one peer, the same way for the same seed', () => {
    const scheme = fc.constantFrom<PartitionScheme>(
      { kind: 'iid' },
      { kind: 'by-class', classesPerPeer: 10 },
      { kind: 'dirichlet', alpha: 0.5, minimum: 0 },
      { kind: 'by-group' }
    )
    fc.assert(
      fc.property(scheme, fc.integer({ min: 1, max: 9 }), fc.string(), (kind, peers, seed) => {
        const shares = partition(labels, kind, peers, seed)
        expect(shares.length).toBe(peers)
        expect(shares.flat().toSorted((a, b) => a - b)).toEqual(labels.map((_, i) => i))
        expect(partition(labels, kind, peers, seed)).toEqual(shares)
      }),
      { numRuns: runs(40) }
    )
  })

  it('iid: equal shares, other seeds other shares', () => {
    const shares = partition(labels, { kind: 'iid' }, 7, 'a')
    expect(Math.max(...shares.map((s) => s.length)) - Math.min(...shares.map((s) => s.length))).toBeLessThanOrEqual(1)
    expect(partition(labels, { kind: 'iid' }, 7, 'b')).not.toEqual(shares)
  })

  it('by class: so many classes per peer, every class held, its examples shared equally', () => {
    const shares = partition(labels, { kind: 'by-class', classesPerPeer: 3 }, 8, 'a')
    for (const share of shares) expect(classesOf(share).size).toBe(3)
    expect(shares.flat().length).toBe(600)
    expect(new Set(shares.flat()).size).toBe(600)
    for (const share of shares)
      for (const label of classesOf(share)) {
        const count = share.filter((i) => labels[i] === label).length
        expect([20, 30]).toContain(count)
      }
  })

  it('deals classes round and round', () => {
    const held = dealClasses(26, 8, 6, 's').flat()
    const counts = Array.from({ length: 26 }, (_, label) => held.filter((each) => each === label).length)
    expect([Math.min(...counts), Math.max(...counts)]).toEqual([1, 2])
    for (const classes of dealClasses(5, 3, 4, 's')) expect(new Set(classes).size).toBe(4)
  })

  it('dirichlet: small alpha is skewed, large alpha is even', () => {
    const largest = (alpha: number) => {
      const shares = partition(labels, { kind: 'dirichlet', alpha }, 5, 'a')
      const parts = shares.flatMap((share) =>
        [...Array(10).keys()].map((l) => share.filter((i) => labels[i] === l).length)
      )
      return Math.max(...parts) / 60
    }
    expect(largest(0.1)).toBeGreaterThan(0.8)
    expect(largest(1000)).toBeLessThan(0.35)
  })

  it('by group: a group is never torn', () => {
    const shares = partition([4, 0, 1, 4, 3, 2, 0], { kind: 'by-group' }, 2, 'a')
    expect(shares).toEqual([
      [0, 1, 3, 5, 6],
      [2, 4]
    ])
  })

  it('refuses what cannot be dealt', () => {
    const bad = expect.objectContaining({ code: 'data/bad-partition' })
    expect(() => partition(labels, { kind: 'iid' }, 0, 'a')).toThrow(bad)
    expect(() => partition(labels, { kind: 'by-class', classesPerPeer: 11 }, 2, 'a')).toThrow(bad)
    expect(() => partition(labels, { kind: 'dirichlet', alpha: 0 }, 2, 'a')).toThrow(bad)
    expect(() => partition([0, 0], { kind: 'dirichlet', alpha: 1, minimum: 2 }, 2, 'a')).toThrow(bad)
  })
})

describe('the gamma and Dirichlet samplers', () => {
  const moments = (draws: readonly number[]) => {
    const mean = draws.reduce((a, b) => a + b, 0) / draws.length
    return { mean, variance: draws.reduce((a, b) => a + (b - mean) ** 2, 0) / draws.length }
  }

  // A gamma variate of shape a has mean a and variance a; 20,000 draws put both within 5 standard errors.
  it.each([0.1, 0.5, 1, 3, 20])('gamma(%d) has its mean and variance', (alpha) => {
    const rng = seededRng('gamma', alpha)
    const { mean, variance } = moments(Array.from({ length: 20_000 }, () => gamma(alpha, rng)))
    expect(Math.abs(mean - alpha)).toBeLessThan(5 * Math.sqrt(alpha / 20_000))
    // The variance of a squared deviation is 2 a^2 + 6 a.
    expect(Math.abs(variance - alpha)).toBeLessThan(5 * Math.sqrt((2 * alpha * alpha + 6 * alpha) / 20_000))
  })

  it('Dirichlet proportions sum to 1 with variance (k - 1) / (k^2 (k alpha + 1))', () => {
    const rng = seededRng('dirichlet')
    const draws = Array.from({ length: 20_000 }, () => dirichlet(0.5, 4, rng))
    for (const draw of draws.slice(0, 100)) expect(draw.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12)
    const { mean, variance } = moments(draws.map(([first]) => first!))
    expect(mean).toBeCloseTo(0.25, 2)
    expect(variance).toBeCloseTo(3 / (16 * 3), 2)
    expect(dirichlet(1e-9, 3, rng).toSorted()).toEqual([0, 0, 1])
  })
})
