import { PeertuneError } from '../base/errors.js'
import { distance2, weightedMean } from '../tensor/linear.js'

/**
 * Robust means of a neighbourhood: several vectors, up to `b` of them from liars nobody can name. The own vector is one of
 * them. Pure; none of these keeps the network's mean, which is the price of each: use them where a neighbourhood mixes at
 * once, and clipping (radius.ts) between two.
 */
export type NeighbourhoodRule = (vectors: readonly Float32Array[], b: number) => Float32Array

/** Throws `consensus/too-many-liars` unless `b` is a whole number with 2 b < n. */
function requireMajority(rule: string, vectors: readonly Float32Array[], b: number): void {
  if (Number.isInteger(b) && b >= 0 && 2 * b < vectors.length) return
  throw new PeertuneError('consensus/too-many-liars', `${rule}: ${b} liars among ${vectors.length} vectors`, {
    facts: { vectors: vectors.length, b },
    hint: 'a majority must be honest'
  })
}

/** Applies `combine` to the sorted values of every coordinate. */
function byCoordinate(vectors: readonly Float32Array[], combine: (sorted: Float64Array) => number): Float32Array {
  const out = new Float32Array(vectors[0]?.length ?? 0)
  const values = new Float64Array(vectors.length)
  for (let i = 0; i < out.length; i++) {
    for (let k = 0; k < vectors.length; k++) values[k] = vectors[k]![i]!
    // Typed arrays sort by number, NaN last.
    out[i] = combine(values.sort())
  }
  return out
}

/**
 * Coordinate-wise trimmed mean: without the b largest and b smallest (Yin et al. 2018, https://arxiv.org/abs/1803.01498;
 * without a server BRIDGE, Fang et al. 2022, https://arxiv.org/abs/1908.08649). The plain mean for b = 0.
 */
export const trimmedMean: NeighbourhoodRule = (vectors, b) => {
  requireMajority('trimmed mean', vectors, b)
  return byCoordinate(vectors, (sorted) => {
    let sum = 0
    for (let k = b; k < sorted.length - b; k++) sum += sorted[k]!
    return sum / (sorted.length - 2 * b)
  })
}

/** Coordinate-wise median: the mean of the middle two where their number is even. Stands any minority. */
export const coordinateMedian: NeighbourhoodRule = (vectors, b) => {
  requireMajority('median', vectors, b)
  return byCoordinate(vectors, (sorted) => {
    const half = sorted.length >> 1
    return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
  })
}

/** Weiszfeld steps, and the distance below which a vector no longer gains weight, as in the RFA paper. */
const WEISZFELD_STEPS = 8
const WEISZFELD_SMOOTHING = 1e-6

/**
 * Geometric median by smoothed Weiszfeld steps (Pillutla, Kakade & Harchaoui 2019,
 * https://arxiv.org/abs/1912.13445, algorithm 2): approximate. Begins at the
 * coordinate-wise median, so that a few steps are enough however far away a liar is.
 */
export const geometricMedian: NeighbourhoodRule = (vectors, b) => {
  requireMajority('geometric median', vectors, b)
  let centre = coordinateMedian(vectors, b)
  for (let step = 0; step < WEISZFELD_STEPS; step++) {
    const weights = vectors.map((vector) => 1 / Math.max(WEISZFELD_SMOOTHING, distance2(vector, centre)))
    centre = Float32Array.from(weightedMean(vectors, weights))
  }
  return centre
}

/** The `count` vectors nearest to `to`, by distance and then by place; `to` itself is the first of them if it is there. */
function nearest(vectors: readonly Float32Array[], to: Float32Array, count: number): readonly Float32Array[] {
  return vectors
    .map((vector, index) => ({ vector, index, distance: distance2(vector, to) }))
    .sort((x, y) => x.distance - y.distance || x.index - y.index)
    .slice(0, count)
    .map(({ vector }) => vector)
}

const meanOf = (vectors: readonly Float32Array[]): Float32Array =>
  Float32Array.from(
    weightedMean(
      vectors,
      vectors.map(() => 1)
    )
  )

/**
 * Nearest-neighbour mixing: every vector becomes the mean of the n - b nearest to it, itself among them; what comes out
 * goes to another rule, which it makes (f, kappa)-robust (Allouah et al. 2023, https://arxiv.org/abs/2302.01772).
 */
export function nearestNeighbourMixing(vectors: readonly Float32Array[], b: number): readonly Float32Array[] {
  requireMajority('nearest-neighbour mixing', vectors, b)
  return vectors.map((vector) => meanOf(nearest(vectors, vector, vectors.length - b)))
}

/** NNM, then the trimmed mean: the pair its paper recommends. */
export const nnmTrimmedMean: NeighbourhoodRule = (vectors, b) => trimmedMean(nearestNeighbourMixing(vectors, b), b)

/**
 * Nearest-neighbour averaging around the own vector, which is the first: the mean of the n - b nearest to it (Farhadkhani et
 * al. 2023, https://arxiv.org/abs/2306.03401).
 */
export const nearestNeighbourAverage: NeighbourhoodRule = (vectors, b) => {
  requireMajority('nearest-neighbour averaging', vectors, b)
  return meanOf(nearest(vectors, vectors[0]!, vectors.length - b))
}
