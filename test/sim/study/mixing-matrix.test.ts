import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import {
  countRounds,
  directedExponential,
  epidemicRound,
  metropolisHastings,
  type MixingMatrix,
  predictedExchanges,
  slowestMode,
  spectralGap
} from '../../../src/sim/study/mixing-matrix.js'
import {
  complete,
  exponential,
  isConnected,
  type Overlay,
  randomRegular,
  ring,
  torus
} from '../../../src/consensus/partners/overlay.js'

/** Rounds after which the consensus error of any start is `shrink` times smaller, from the gap alone. */
const predictedRounds = (gap: number, shrink: number): number =>
  gap >= 1 ? 1 : Math.ceil(Math.log(shrink) / -Math.log1p(-gap) - 1e-9)

const SHRINK = 100

const columnSums = (matrix: MixingMatrix): number[] => {
  const sums = matrix.map(() => 0)
  for (const row of matrix) for (const { peer, weight } of row) sums[peer] = sums[peer]! + weight
  return sums
}

/** Rounds the slowest mode really takes. */
const measured = (matrix: MixingMatrix): number =>
  countRounds(() => matrix, slowestMode(matrix).start, { shrink: SHRINK, limit: 5_000 })

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

describe('overlays', () => {
  it.each([
    ['ring', ring(7), 2],
    ['torus of 3 x 5', torus(15), 4],
    ['exponential', exponential(16), 7],
    ['random regular', randomRegular(18, 5, seededRng('overlay')), 5],
    ['complete', complete(6), 5]
  ])('%s: connected, undirected, every degree as it should be', (_, overlay: Overlay, degree) => {
    expect(isConnected(overlay)).toBe(true)
    overlay.forEach((neighbours, i) => {
      expect(neighbours).toHaveLength(degree)
      for (const j of neighbours) expect(overlay[j]).toContain(i)
      expect(neighbours).not.toContain(i)
    })
  })

  it('refuses a regular graph that cannot be', () => {
    expect(() => randomRegular(7, 3, seededRng('x'))).toThrow(/degree 3/)
    expect(() => randomRegular(4, 4, seededRng('x'))).toThrow(/degree 4/)
  })
})

describe('Metropolis-Hastings weights', () => {
  it('are symmetric and doubly stochastic on an irregular graph', () => {
    const star: Overlay = [[1, 2, 3], [0], [0], [0, 4], [3]]
    const matrix = metropolisHastings(star)
    for (const sum of columnSums(matrix)) expect(sum).toBeCloseTo(1, 14)
    for (const row of matrix) expect(row.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 14)
    expect(matrix[0]).toContainEqual({ peer: 3, weight: 0.25 })
    expect(matrix[4]).toContainEqual({ peer: 3, weight: 1 / 3 })
  })

  it('have the gap of the closed form on a ring: 1 - (1 + 2 cos(2 pi / n)) / 3', () => {
    for (const size of [8, 15, 64])
      expect(spectralGap(metropolisHastings(ring(size)))).toBeCloseTo(
        1 - (1 + 2 * Math.cos((2 * Math.PI) / size)) / 3,
        9
      )
  })
})

describe('rounds to shrink the consensus error 100 times', () => {
  // Computed independently in numpy from ||W^t - J||.
  it.each([
    ['ring', 8, metropolisHastings(ring(8)), 22, 0.195],
    ['ring', 16, metropolisHastings(ring(16)), 89, 0.051],
    ['ring', 32, metropolisHastings(ring(32)), 358, 0.013],
    ['ring', 64, metropolisHastings(ring(64)), 1433, 0.003],
    ['torus', 16, metropolisHastings(torus(16)), 10, undefined],
    ['torus', 64, metropolisHastings(torus(64)), 37, undefined],
    ['exponential', 16, metropolisHastings(exponential(16)), 7, 0.5],
    ['exponential', 32, metropolisHastings(exponential(32)), 10, 0.4],
    ['exponential', 64, metropolisHastings(exponential(64)), 12, 0.33],
    ['directed exponential', 16, directedExponential(16), 10, undefined],
    ['directed exponential', 64, directedExponential(64), 14, undefined],
    ['complete', 16, metropolisHastings(complete(16)), 1, 1]
  ])('%s of %i', (_, __, matrix, rounds, gap) => {
    expect(predictedRounds(spectralGap(matrix), SHRINK)).toBe(rounds)
    expect(measured(matrix)).toBe(rounds)
    if (gap !== undefined) expect(Math.abs(spectralGap(matrix) - gap)).toBeLessThan(0.006)
  })

  it.each([
    [16, 4, 17],
    [64, 4, 26],
    [16, 6, 8],
    [64, 6, 16]
  ])('random regular of %i with degree %i, median of 15 draws, within a fifth', (size, degree, rounds) => {
    const draws = Array.from({ length: 15 }, (_, seed) =>
      measured(metropolisHastings(randomRegular(size, degree, seededRng('draw', seed))))
    )
    expect(Math.abs(median(draws) / rounds - 1)).toBeLessThanOrEqual(0.2)
  })

  it.each([
    [16, 1, 19],
    [16, 2, 10],
    [16, 4, 6],
    [64, 1, 20],
    [64, 2, 11],
    [64, 6, 5]
  ])('%i peers that send to %i random others each round, mean of 40 runs, within a fifth', (size, fanOut, rounds) => {
    const runs = Array.from({ length: 40 }, (_, seed) => {
      const rng = seededRng('epidemic', size, fanOut, seed)
      const start = Float64Array.from({ length: size }, () => rng.uniform() - 0.5)
      return countRounds(() => epidemicRound(size, fanOut, rng), start, { shrink: SHRINK, limit: 200 })
    })
    const mean = runs.reduce((sum, count) => sum + count, 0) / runs.length
    expect(Math.abs(mean / rounds - 1)).toBeLessThanOrEqual(0.2)
  })
})

describe('randomized pairwise gossip', () => {
  it('has the closed form on a complete graph: one exchange takes 1 / (n - 1) of the squared error', () => {
    for (const size of [8, 64])
      expect(predictedExchanges(complete(size), SHRINK)).toBeCloseTo(
        ((2 / size) * Math.log(SHRINK ** 2)) / -Math.log(1 - 1 / (size - 1)),
        6
      )
  })
})
