import { mixOnce, type MixingMatrix } from './mixing-matrix.js'

/** One peer's part of gradient tracking, one coordinate or many: float64[n] each. */
export interface TrackingState {
  readonly x: Float64Array
  /** What the peer takes for the mean of all gradients. */
  readonly tracker: Float64Array
  /** Its own gradient at `x`. */
  readonly gradient: Float64Array
}

/** Begins where everybody's tracker is its own gradient. */
export const beginTracking = (starts: readonly Float64Array[], gradientOf: Gradient): readonly TrackingState[] =>
  starts.map((x, peer) => {
    const gradient = gradientOf(peer, x)
    return { x, tracker: gradient, gradient }
  })

export type Gradient = (peer: number, x: Float64Array) => Float64Array

export interface Descent {
  readonly gradientOf: Gradient
  /** eta */
  readonly rate: number
}

/**
 * One round of gradient tracking (DIGing, Nedic, Olshevsky & Shi 2017, https://arxiv.org/abs/1607.03218, in its adapt-then-combine form):
 *
 *   x_i <- sum_j w_ij (x_j - eta y_j)
 *   y_i <- sum_j w_ij y_j + grad f_i(x_i new) - grad f_i(x_i old)
 *
 * The mean of the trackers is the mean of the gradients at every round (an identity for doubly stochastic W), so with a
 * constant step everybody comes to the common optimum itself, whatever the peers' data. An experiment: it sends two vectors
 * for one, and a peer that leaves takes its share of the trackers with it, so it is not offered to federations.
 */
export function trackingRound(
  matrix: MixingMatrix,
  states: readonly TrackingState[],
  { gradientOf, rate }: Descent
): readonly TrackingState[] {
  const moved = mixVectors(
    matrix,
    states.map(({ x, tracker }) => x.map((value, k) => value - rate * tracker[k]!))
  )
  const trackers = mixVectors(
    matrix,
    states.map(({ tracker }) => tracker)
  )
  return states.map((before, peer) => {
    const x = moved[peer]!
    const gradient = gradientOf(peer, x)
    const tracker = trackers[peer]!.map((value, k) => value + gradient[k]! - before.gradient[k]!)
    return { x, tracker, gradient }
  })
}

/** W applied to every coordinate of the peers' vectors. */
export function mixVectors(matrix: MixingMatrix, vectors: readonly Float64Array[]): readonly Float64Array[] {
  const size = vectors[0]?.length ?? 0
  const mixed = vectors.map(() => new Float64Array(size))
  for (let k = 0; k < size; k++)
    mixOnce(
      matrix,
      Float64Array.from(vectors, (vector) => vector[k]!)
    ).forEach((value, peer) => {
      mixed[peer]![k] = value
    })
  return mixed
}
