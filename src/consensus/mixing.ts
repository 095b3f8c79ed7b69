/** One exchange as a mixing rule sees it. Both vectors are what both sides decoded, bit for bit. */
export interface MixingInput {
  /** float32[n]: what the partner knows of us. */
  readonly own: Float32Array
  /** float32[n]: what we know of the partner. */
  readonly partner: Float32Array
  readonly ownWeight: number
  readonly partnerWeight: number
  /** Step towards the partner, in (0, 1]. */
  readonly gamma: number
}

/**
 * What to add to our live parameters, float32[n]. Pure. A rule keeps the network's mean if it is antisymmetric:
 * ownWeight * rule(a, b) + partnerWeight * rule(b, a) = 0. Robust rules that clip have their place here; they pay with
 * that property unless both sides clip alike.
 */
export type MixingRule = (input: MixingInput) => Float32Array

/**
 * The weighted pair average: rho * (partner - own) with rho = gamma * partnerWeight / (ownWeight + partnerWeight). With
 * gamma 1 both sides of a pair that agree on (own, partner) meet in their weighted mean. The atomic pair average of
 * AD-PSGD (Lian et al. 2018, https://arxiv.org/abs/1710.06952, algorithm 1), weighted by sample size as FedAvg is.
 */
export const pairwiseMean: MixingRule = ({ own, partner, ownWeight, partnerWeight, gamma }) => {
  const rho = (gamma * partnerWeight) / (ownWeight + partnerWeight)
  const increment = new Float32Array(own.length)
  for (let i = 0; i < increment.length; i++) increment[i] = rho * (partner[i]! - own[i]!)
  return increment
}
