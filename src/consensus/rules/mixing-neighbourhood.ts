import { PeertuneError } from '../../base/errors.js'
import { weightedMean } from '../../tensor/linear.js'
import type { DistanceMeasure } from './distance.js'
import { euclidean } from './distance.js'

/**
 * Robust means of a neighbourhood: several vectors, up to `b` of them from liars nobody can name. The own vector is one of
 * them. Pure; none of these keeps the network's mean, which is the price of each: use them where a neighbourhood mixes at
 * once, and clipping (radius.ts) between two. Whatever asks who is near asks by `measure` (default: `euclidean`), so that
 * adapters are told apart by what they do.
 */
export type NeighbourhoodRule = (vectors: readonly Float32Array[], b: number, measure?: DistanceMeasure) => Float32Array

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

/**
 * The vector nearest to its n - b nearest, itself included: one that a majority stands around, by `measure` (Krum, Blanchard
 * et al. 2017, https://arxiv.org/abs/1703.02757, section 4, with distances in the place of their squares).
 */
function centralIndex(vectors: readonly Float32Array[], b: number, measure: DistanceMeasure): number {
  const scores = vectors.map((vector) => {
    const distances = vectors.map((other) => measure(vector, other).distance).sort((x, y) => x - y)
    return distances.slice(0, vectors.length - b).reduce((sum, distance) => sum + distance, 0)
  })
  return scores.indexOf(Math.min(...scores))
}

/**
 * The trimmed mean in whatever space `measure` looks at: the mean of the n - b vectors nearest to the most central one. A
 * coordinate-wise rule lets pass a pair of factors each within everybody's range whose product is far out of it (gradient
 * assembly, https://arxiv.org/abs/2601.00566); this one does not.
 */
export const centralMean: NeighbourhoodRule = (vectors, b, measure = euclidean) => {
  requireMajority('central mean', vectors, b)
  const centre = vectors[centralIndex(vectors, b, measure)]!
  return meanOf(nearestFirst(vectors, centre, measure).slice(0, vectors.length - b))
}

/** By distance from `to` and then by place; `to` itself is the first of them if it is there. */
function nearestFirst(
  vectors: readonly Float32Array[],
  to: Float32Array,
  measure: DistanceMeasure
): readonly Float32Array[] {
  return vectors
    .map((vector, index) => ({ vector, index, distance: vector === to ? 0 : measure(vector, to).distance }))
    .sort((x, y) => x.distance - y.distance || x.index - y.index)
    .map(({ vector }) => vector)
}

export const meanOf = (vectors: readonly Float32Array[]): Float32Array =>
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
export function nearestNeighbourMixing(
  vectors: readonly Float32Array[],
  b: number,
  measure: DistanceMeasure = euclidean
): readonly Float32Array[] {
  requireMajority('nearest-neighbour mixing', vectors, b)
  return vectors.map((vector) => meanOf(nearestFirst(vectors, vector, measure).slice(0, vectors.length - b)))
}

/** NNM, then the trimmed mean: the pair its paper recommends. */
export const nnmTrimmedMean: NeighbourhoodRule = (vectors, b, measure) =>
  trimmedMean(nearestNeighbourMixing(vectors, b, measure), b)
