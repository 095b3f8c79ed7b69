import type { ExchangeConfig, ExchangeState, Standpoint, Terms } from './types.js'
import { balanceRadius } from '../rules/mixing-acceptance.js'
import { announcedRadius, clipScale, holdsBack, type Pace, radiusOf } from '../rules/radius.js'

export const paceOf = ({ config: { localSteps = 1 }, local: { step = 0 } }: Standpoint): Pace => ({ step, localSteps })

/** True where the federation's rule makes both sides say how far they follow. */
export const hasRadius = ({ clip, robust }: ExchangeConfig): boolean => clip !== undefined || robust?.rule === 'balance'

/** What we announce; each only where the federation's rule asks for it. `distanceFromStart`: our way from the common start. */
export function ownTerms(here: Standpoint, state: ExchangeState, distanceFromStart: number): Terms {
  const { clip = Number.POSITIVE_INFINITY, robust } = here.config
  const { degree, progress = 0 } = here.local
  const neighbours = degree === undefined ? {} : { degree }
  if (!hasRadius(here.config)) return neighbours
  if (robust?.rule === 'balance')
    return { radius: balanceRadius(robust, { distanceFromStart, progress }), ...neighbours }
  const usual = radiusOf(clip, state.distances, { ...paceOf(here), distanceFromStart })
  return { radius: announcedRadius(usual, state.distances), usual, ...neighbours }
}

/** The terms among a message's fields. */
export const termsOf = ({ radius, degree }: Terms): Terms => ({
  ...(radius === undefined ? {} : { radius }),
  ...(degree === undefined ? {} : { degree })
})

/** What the two sides of an exchange have told each other. */
export interface PairTerms {
  readonly terms: Terms
  readonly partnerTerms: Terms
}

export interface Agreed {
  /** Share of the whole way to a partner at that distance that both sides go. */
  readonly scale: number
  readonly heldBack: boolean
}

/**
 * What the two sides' terms come to: the smaller radius and the larger degree, so that both apply the same and the weighted
 * mean of the pair stays where it is.
 *
 * With degrees, the step is that of Metropolis-Hastings weights: w_ij = 1 / (1 + max(deg_i, deg_j)), of which a pair average
 * is the case w = 1/2, hence twice w times a pair average (Xiao, Boyd & Kim 2007,
 * https://doi.org/10.1016/j.jpdc.2006.08.010).
 */
export function agreedOn(config: ExchangeConfig, pair: PairTerms, distance: number): Agreed {
  const { terms: own, partnerTerms: partner } = pair
  const radius = Math.min(own.radius ?? Number.POSITIVE_INFINITY, partner.radius ?? Number.POSITIVE_INFINITY)
  const share = !hasRadius(config)
    ? 1
    : config.robust?.rule === 'balance'
      ? Number(distance <= radius)
      : clipScale(radius, distance)
  return {
    scale: share * overlayStep(own, partner),
    heldBack: holdsBack(distance, own.usual ?? own.radius, partner.radius)
  }
}

/** 2 w_ij, at most 1; 1 where a side has no neighbours to speak of. */
function overlayStep({ degree: own }: Terms, { degree: partner }: Terms): number {
  if (own === undefined || partner === undefined) return 1
  return Math.min(1, 2 / (1 + Math.max(own, partner)))
}
