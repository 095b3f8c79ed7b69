import type { PeerId } from './peer-id.js'

/** Names remembered. */
export const MAX_DISTANCES = 32
/** Of them, those that met us once: more do not push out who is known, and fewer give way to nobody. */
const STRANGER_PLACES = 8

/** Exchanges from which on a name has a vote: one that is new every time never gets it. */
export const VOTING_MEETINGS = 2

/** Names with a vote below which everybody is asked, and the own way from the start with them: the beginning of a life. */
export const MIN_VOTERS = 3

/** Multiples of `localSteps` without an exchange from which on what was measured before is out of date. */
export const PAUSE_ROUNDS = 2

/**
 * The `mixing.clip` that new federations get: honest peers are followed about half of the way, which costs a few more
 * exchanges. Chosen with bench/attack.ts; docs/mixing-results.md has the table, with seeds and a task it was not chosen on.
 */
export const SUGGESTED_CLIP = 0.5

/** What is known of how far one partner is. */
export interface Met {
  /** At the last exchange, before clipping. */
  readonly distance: number
  /** What we may have grown apart since, by a pause in which everybody trained alone: 1 without one. */
  readonly growth: number
  /** Exchanges with it. */
  readonly meetings: number
  /** It was ready to follow us much less far than we are from it, and than we were ready to follow it. */
  readonly heldBack: boolean
}

export interface Distances {
  /** The latest last; one for each name: however often a partner calls, it has one vote on what is usual. */
  readonly met: ReadonlyMap<PeerId, Met>
  /** Our local step at the last exchange. */
  readonly atStep: number
}

export const noDistances: Distances = { met: new Map(), atStep: 0 }

/** Our own clock: nobody else's is trusted. */
export interface Pace {
  /** Local steps taken. */
  readonly step: number
  /** Local steps between exchanges (H). */
  readonly localSteps: number
}

/** How much farther apart than at the last exchange peers may be by now: 1 up to PAUSE_ROUNDS, then the rounds missed. */
export function growthOf({ atStep }: Pick<Distances, 'atStep'>, { step, localSteps }: Pace): number {
  const rounds = (step - atStep) / localSteps
  return rounds > PAUSE_ROUNDS ? rounds : 1
}

export interface Measured {
  readonly distance: number
  readonly heldBack?: boolean
}

export function noteDistance(
  distances: Distances,
  peer: PeerId,
  { distance, heldBack = false }: Measured,
  pace: Pace
): Distances {
  const growth = growthOf(distances, pace)
  const met = new Map<PeerId, Met>()
  for (const [other, before] of distances.met) met.set(other, growth === 1 ? before : grown(before, growth))
  const meetings = (met.get(peer)?.meetings ?? 0) + 1
  met.delete(peer)
  met.set(peer, { distance, growth: 1, meetings, heldBack })
  if (met.size > MAX_DISTANCES) met.delete(leastKnown(met, peer))
  return { met, atStep: pace.step }
}

const grown = (met: Met, growth: number): Met => ({ ...met, growth: met.growth * growth })

/** The stranger met longest ago, or where there are few of them the acquaintance; never the one just met. */
function leastKnown(met: ReadonlyMap<PeerId, Met>, latest: PeerId): PeerId {
  const others = [...met].filter(([peer]) => peer !== latest)
  const isStranger = ([, { meetings }]: readonly [PeerId, Met]): boolean => meetings < VOTING_MEETINGS
  const strangers = others.filter(isStranger)
  const first = strangers.length > STRANGER_PLACES ? strangers[0] : others.find((one) => !isStranger(one))
  return (first ?? others[0] ?? [latest])[0]
}

const voters = ({ met }: Distances): readonly Met[] => {
  const known = [...met.values()].filter(({ meetings }) => meetings >= VOTING_MEETINGS)
  return known.length >= MIN_VOTERS ? known : [...met.values()]
}

/** The middle one, the smaller of the two in the middle. */
function lowerMedian(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[(sorted.length - 1) >> 1] ?? 0
}

/**
 * The length up to which we follow a partner: `clip` times the median distance to our partners. Self-centred clipping (He,
 * Karimireddy & Jaggi 2022, https://arxiv.org/abs/2202.01545) with a radius that adapts, since nobody knows who is honest:
 *
 * - up to half of our partners may lie without moving the median past an honest one;
 * - a name votes from its second exchange on, so that one operator with a new name each time has no say;
 * - after a pause in which we trained alone, distances measured before it count as many times as we missed rounds, but not
 *   beyond the way from the common start: peers that were all cut off find each other again;
 * - that way is a vote of its own while few are known: honest peers come about as far.
 */
export function radiusOf(
  clip: number,
  distances: Distances,
  { travelled, ...pace }: Pace & { readonly travelled: number }
) {
  const now = growthOf(distances, pace)
  const votes = voters(distances).map(({ distance, growth }) =>
    growth * now === 1 ? distance : Math.max(distance, Math.min(distance * growth * now, travelled))
  )
  return clip * lowerMedian(votes.length < MIN_VOTERS ? [...votes, travelled] : votes)
}

/** A partner holds us back where its radius is less than this share of ours and of the distance. */
const HELD_BACK_SHARE = 0.5

export const holdsBack = (distance: number, own: number | undefined, partner: number | undefined): boolean =>
  own !== undefined && partner !== undefined && partner < HELD_BACK_SHARE * Math.min(own, distance)

/**
 * Most of those we know hold us back: they are near each other and we are not. Waiting does not help, since nobody will
 * follow us and we may follow nobody; a look at several states does (catch-up.ts).
 */
export function isOddOneOut({ met }: Distances): boolean {
  const known = [...met.values()].filter(({ meetings }) => meetings >= VOTING_MEETINGS)
  return known.length >= MIN_VOTERS && 2 * known.filter(({ heldBack }) => heldBack).length > known.length
}

/** Radii beyond which a partner moves us less the farther away it is. */
export const DISTRUST_RADII = 2

/**
 * The share of a difference that is followed: all of it within the radius; beyond it so much that we move as if the partner
 * stood on the radius, and beyond two radii less and less, as 1 / distance (a redescending influence, Hampel 1974). A liar
 * thus has most to win where honest peers are, and one that shouts is not heard; but somebody far away for a good reason
 * is still approached. Both ends take the smaller of their two radii, so they clip alike and their weighted mean stays
 * where it is; a partner that announces a tiny radius only holds itself back.
 */
export function clipScale(radius: number, distance: number): number {
  if (distance <= radius) return 1
  return (radius / distance) * Math.min(1, (DISTRUST_RADII * radius) / distance)
}
