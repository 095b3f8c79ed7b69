/** Momentum on what the exchanges of one peer have come to. */
export interface OuterMomentum {
  /** a: how much of the last outer step goes on, in [0, 1). */
  readonly decay: number
  /** b: how much of the way to the mixed parameters is taken, in (0, 2]. */
  readonly step: number
}

export interface OuterState {
  /** phi: where the last outer step has led, float32[n]. */
  readonly anchor: Float32Array
  /** delta: the last outer step, float32[n]. */
  readonly momentum: Float32Array
}

export interface OuterInput {
  /** theta: what the partner knows of us after our local steps, float32[n]. */
  readonly own: Float32Array
  /** What the pair rule would add to it: half of the way to the partner, for a pair of equal weight. */
  readonly increment: Float32Array
  /** Absent at the first exchange: the local steps before it count as where we stand. */
  readonly state: OuterState | undefined
}

/**
 * NoLoCo's outer step (https://arxiv.org/abs/2506.10911, its modified Nesterov momentum): with slow weights phi, local progress
 * D = theta - phi and a random partner j,
 *
 *   delta_i <- a delta_i + b/2 (D_i + D_j) - g/2 (phi_i - phi_j),   phi_i <- phi_i + delta_i
 *
 * For g = b the two last terms are b (mean(theta_i, theta_j) - phi_i): all that is needed of the partner is the vector that
 * a pair exchange carries anyway, and a = 0, b = 1 is the pair average itself. `own + increment` stands for that mean, so
 * clipping and weights are in it. The mean over all peers of phi moves by exactly the mean of delta: momentum goes on
 * where the peers were going together, and so the parameters' mean is not kept; with a = 0 and no local steps it is.
 */
export function outerStep(
  { decay, step }: OuterMomentum,
  { own, increment, state }: OuterInput
): { readonly increment: Float32Array; readonly next: OuterState } {
  const anchor = new Float32Array(own.length)
  const momentum = new Float32Array(own.length)
  const out = new Float32Array(own.length)
  for (let i = 0; i < own.length; i++) {
    const from = state === undefined ? own[i]! : state.anchor[i]!
    const delta = decay * (state?.momentum[i] ?? 0) + step * (own[i]! + increment[i]! - from)
    momentum[i] = delta
    anchor[i] = from + delta
    out[i] = from + delta - own[i]!
  }
  return { increment: out, next: { anchor, momentum } }
}
