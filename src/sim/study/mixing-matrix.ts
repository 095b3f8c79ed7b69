import { type Rng, seededRng } from '../../base/rng.js'
import type { Overlay } from '../../consensus/partners/overlay.js'

/** One entry of a row: `weight` is w_ij for j = `peer`. */
export interface MixingWeight {
  readonly peer: number
  readonly weight: number
}

/** A mixing matrix W by rows, zeros left out; x_i <- sum_j w_ij x_j is one round of gossip. */
export type MixingMatrix = readonly (readonly MixingWeight[])[]

/**
 * Metropolis-Hastings weights: w_ij = 1 / (1 + max(deg_i, deg_j)), the rest to oneself. Symmetric and doubly stochastic,
 * and a peer needs its neighbours' degrees only (Xiao, Boyd & Kim 2007, https://doi.org/10.1016/j.jpdc.2006.08.010).
 */
export const metropolisHastings = (overlay: Overlay): MixingMatrix =>
  overlay.map((neighbours, i) => {
    const row = neighbours.map((peer) => ({
      peer,
      weight: 1 / (1 + Math.max(neighbours.length, overlay[peer]!.length))
    }))
    return [{ peer: i, weight: 1 - row.reduce((sum, { weight }) => sum + weight, 0) }, ...row]
  })

/**
 * The directed static exponential graph: i hears i + 2^k for all k, each with weight 1 / (1 + ceil(log2 n)). Doubly
 * stochastic, not symmetric (Assran et al. 2019, https://arxiv.org/abs/1811.10792).
 */
export function directedExponential(size: number): MixingMatrix {
  const hops = Math.ceil(Math.log2(size))
  const weight = 1 / (1 + hops)
  return Array.from({ length: size }, (_, i) => [
    { peer: i, weight },
    ...Array.from({ length: hops }, (_, k) => ({ peer: (i + 2 ** k) % size, weight }))
  ])
}

/**
 * One round of Epidemic Learning, EL-Local: every peer sends to `fanOut` others at random, and averages what it got with
 * its own. Row-stochastic: the mean stays where it is in expectation only (De Vos et al. 2023,
 * https://arxiv.org/abs/2310.01972).
 */
export function epidemicRound(size: number, fanOut: number, rng: Rng): MixingMatrix {
  const heard: number[][] = Array.from({ length: size }, (_, i) => [i])
  for (let from = 0; from < size; from++) {
    const chosen = new Set<number>()
    while (chosen.size < Math.min(fanOut, size - 1)) {
      const to = rng.integer(size)
      if (to !== from) chosen.add(to)
    }
    for (const to of chosen) heard[to]!.push(from)
  }
  return heard.map((peers) => peers.map((peer) => ({ peer, weight: 1 / peers.length })))
}

/**
 * The expected matrix of one exchange of randomized pairwise gossip: a random peer averages with a random neighbour.
 * Its second largest eigenvalue is the factor by which one exchange shrinks the squared consensus error at least, in
 * expectation (Boyd et al. 2006, https://doi.org/10.1109/TIT.2006.874516, theorem 3).
 */
function pairwiseGossip(overlay: Overlay): MixingMatrix {
  const size = overlay.length
  return overlay.map((neighbours, i) => {
    const row = neighbours.map((peer) => ({
      peer,
      weight: (1 / neighbours.length + 1 / overlay[peer]!.length) / (2 * size)
    }))
    return [{ peer: i, weight: 1 - row.reduce((sum, { weight }) => sum + weight, 0) }, ...row]
  })
}

/** W x. */
export const mixOnce = (matrix: MixingMatrix, x: Float64Array): Float64Array =>
  Float64Array.from(matrix, (row) => row.reduce((sum, { peer, weight }) => sum + weight * x[peer]!, 0))

function mixTransposed(matrix: MixingMatrix, x: Float64Array): Float64Array {
  const out = new Float64Array(x.length)
  matrix.forEach((row, i) => {
    for (const { peer, weight } of row) out[peer] = out[peer]! + weight * x[i]!
  })
  return out
}

/** x - mean(x). */
function withoutMean(x: Float64Array): Float64Array {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length
  return x.map((value) => value - mean)
}

const norm = (x: Float64Array): number => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0))

function unit(x: Float64Array): Float64Array {
  const length = norm(x)
  return length === 0 ? x : x.map((value) => value / length)
}

/** Steps of the power iteration at most; a ring of 256, the slowest case in use, needs a few thousand. */
const MAX_POWER_STEPS = 50_000
/** Relative change of the norm at which the power iteration has arrived. */
const POWER_TOLERANCE = 1e-13

export interface SlowestMode {
  /** ||W - J||_2: the consensus error left of the worst start after one round. */
  readonly factor: number
  /** A start that shrinks no faster, of norm 1 and mean 0, float64[n]. */
  readonly start: Float64Array
}

/** The slowest mode of a doubly stochastic matrix by power iteration on (W - J)^T (W - J). */
export function slowestMode(matrix: MixingMatrix): SlowestMode {
  const rng = seededRng('slowest-mode', matrix.length)
  let start = unit(withoutMean(Float64Array.from({ length: matrix.length }, () => rng.uniform() - 0.5)))
  let factor = 0
  for (let step = 0; step < MAX_POWER_STEPS; step++) {
    const mixed = withoutMean(mixOnce(matrix, start))
    const previous = factor
    factor = norm(mixed)
    if (factor < POWER_TOLERANCE || Math.abs(factor - previous) <= POWER_TOLERANCE * factor) break
    start = unit(withoutMean(mixTransposed(matrix, mixed)))
  }
  return { factor, start }
}

/** delta = 1 - ||W - J||_2, in [0, 1]. */
export const spectralGap = (matrix: MixingMatrix): number => 1 - slowestMode(matrix).factor

/** Exchanges each peer takes part in until the consensus error is `shrink` times smaller, from the pairwise matrix. */
export function predictedExchanges(overlay: Overlay, shrink: number): number {
  const { factor } = slowestMode(pairwiseGossip(overlay))
  return ((2 / overlay.length) * Math.log(shrink ** 2)) / -Math.log(factor)
}

/** Rounds after which the consensus error of `start` is `shrink` times smaller; `next(t)` is the matrix of round t. */
export function countRounds(
  next: (round: number) => MixingMatrix,
  start: Float64Array,
  { shrink, limit }: { readonly shrink: number; readonly limit: number }
): number {
  const target = norm(withoutMean(start)) / shrink
  let x = start
  for (let round = 0; round < limit; round++) {
    if (norm(withoutMean(x)) <= target) return round
    x = mixOnce(next(round), x)
  }
  return limit
}
