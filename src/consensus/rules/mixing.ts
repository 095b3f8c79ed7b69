/** One exchange as a mixing rule sees it. Both vectors are what both sides decoded, bit for bit. */
export interface MixingInput {
  /** float32[n]: what the partner knows of us. */
  readonly own: Float32Array
  /** float32[n]: what we know of the partner. */
  readonly partner: Float32Array
  readonly ownWeight: number
  readonly partnerWeight: number
  /** The mixing step: share of the way towards the pair's mean, in (0, 1]. */
  readonly gamma: number
}

/** The `mixing.maxPull` that new federations get: half of the way, which is what peers with equally many examples go. */
export const SUGGESTED_MAX_PULL = 0.5

/**
 * What the step of a pair is multiplied by so that neither side goes more than `maxPull` of the way, in (0, 1]:
 * min(1, maxPull (n_i + n_j) / max(n_i, n_j)). The same on both sides, so the pair keeps its weighted mean, with the weights
 * as they are; with 1/2 the step is that of Metropolis-Hastings towards shares in proportion to n, rho_i = min(1, n_j / n_i)
 * / 2 (Hastings 1970, https://doi.org/10.1093/biomet/57.1.97).
 *
 * Nobody can check how many examples a partner has. One that claims any number of them takes us no farther than an honest
 * one that has as many as we do. Honest pairs take at most a third more exchanges: of the weighted variance that a step
 * could take away, s (2 - s) goes with s > 1/2 of it.
 */
export const pullScale = (ownWeight: number, partnerWeight: number, maxPull: number): number =>
  Math.min(1, (maxPull * (ownWeight + partnerWeight)) / Math.max(ownWeight, partnerWeight))

/**
 * What to add to our live parameters, float32[n]. Pure. A rule keeps the network's mean if it is antisymmetric:
 * ownWeight * rule(a, b) + partnerWeight * rule(b, a) = 0. Robust rules that clip have their place here; they pay with
 * that property unless both sides clip alike.
 */
export type MixingRule = (input: MixingInput) => Float32Array

/**
 * The weighted pair average: rho * (partner - own) with rho = gamma * partnerWeight / (ownWeight + partnerWeight). With
 * a mixing step gamma of 1 both sides of a pair that agree on (own, partner) meet in their weighted mean. The atomic pair
 * average of AD-PSGD (Lian et al. 2018, https://arxiv.org/abs/1710.06952, algorithm 1), weighted by sample size as FedAvg.
 */
export const pairwiseMean: MixingRule = ({ own, partner, ownWeight, partnerWeight, gamma }) => {
  const rho = (gamma * partnerWeight) / (ownWeight + partnerWeight)
  const increment = new Float32Array(own.length)
  for (let i = 0; i < increment.length; i++) increment[i] = rho * (partner[i]! - own[i]!)
  return increment
}
