import { lowerMedian } from '../median.js'
import type { PeerId } from '../peer-id.js'

/** Names remembered. */
export const MAX_DISTANCES = 32
/** Of them, those that met us once: more do not push out who is known, and fewer give way to nobody. */
const STRANGER_PLACES = 8

/** Exchanges from which on a name has a vote: one that is new every time never gets it. */
const VOTING_MEETINGS = 2

/** Times what the median partner is ready to follow it that the odd one out is ready to follow anybody. */
const MOST_RADII = 2

/**
 * Names with a vote below which our own way from the start bounds what everybody says. Of the first three names that are met
 * twice two lie in 15 % of cases where four of fifteen others do, of the first five three in 8 %.
 */
const MIN_VOTERS = 5

/** Names with a vote of which most make a majority. */
const MIN_MAJORITY = 3

/** Multiples of `localSteps` without an exchange from which on what was measured before is out of date. */
const PAUSE_ROUNDS = 2

/**
 * The `mixing.clip` that new federations get: honest peers are followed most of the way, which costs a few more exchanges.
 * Less makes honest peers stay apart, and who mimics one of them moves the others the more; more lets lies in. Chosen with
 * bench/mixing/attack.ts; docs/mixing-results.md has the table, with seeds and tasks it was not chosen on.
 */
export const SUGGESTED_CLIP = 0.7

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
  /** How far it was ready to follow us; absent where it did not say. */
  readonly radius?: number
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

/** What an exchange has shown of a partner. */
export interface Measured {
  readonly peer: PeerId
  readonly distance: number
  readonly heldBack?: boolean
  readonly radius?: number
}

export function noteDistance(distances: Distances, measured: Measured, pace: Pace): Distances {
  const { peer, distance, heldBack = false, radius } = measured
  const growth = growthOf(distances, pace)
  const met = new Map<PeerId, Met>()
  for (const [other, before] of distances.met) met.set(other, growth === 1 ? before : grown(before, growth))
  const meetings = (met.get(peer)?.meetings ?? 0) + 1
  met.delete(peer)
  met.set(peer, { distance, growth: 1, meetings, heldBack, ...(radius === undefined ? {} : { radius }) })
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

const voters = ({ met }: Distances): readonly Met[] =>
  [...met.values()].filter(({ meetings }) => meetings >= VOTING_MEETINGS)

/**
 * The length up to which we follow a partner: `clip` times the median distance to our partners. Self-centred clipping (He,
 * Karimireddy & Jaggi 2022, https://arxiv.org/abs/2202.01545) with a radius that adapts, since nobody knows who is honest:
 *
 * - up to half of our partners may lie without moving the median past an honest one;
 * - a name votes from its second exchange on, so that one operator with a new name each time has no say;
 * - after a pause in which we trained alone, distances measured before it count as many times as we missed rounds, but not
 *   beyond the way from the common start: peers that were all cut off find each other again;
 * - that way is a vote of its own while few are known, and bounds the others: honest peers come about as far, and nobody can
 *   lie about our own. Where all that are known are farther than that, we are the newcomer, and the nearest bounds it.
 */
export function radiusOf(
  clip: number,
  distances: Distances,
  { distanceFromStart, ...pace }: Pace & { readonly distanceFromStart: number }
) {
  const now = growthOf(distances, pace)
  const grownTo = ({ distance, growth }: Met): number =>
    growth * now === 1 ? distance : Math.max(distance, Math.min(distance * growth * now, distanceFromStart))
  const known = voters(distances).map(grownTo)
  if (known.length >= MIN_VOTERS) return clip * lowerMedian(known)
  const most = known.length < MIN_MAJORITY ? distanceFromStart : Math.max(distanceFromStart, Math.min(...known))
  const seen = [...[...distances.met.values()].map(grownTo), distanceFromStart]
  return clip * lowerMedian(seen.map((one) => Math.min(one, most)))
}

/**
 * What we announce of a radius. The odd one out is far from everybody, so its radius is large; honest partners, whose own is
 * small, follow it no farther for that, and liars, who announce what they like, would lead it farther and farther away. So it
 * follows nobody more than MOST_RADII times as far as the median partner follows it.
 */
export function announcedRadius(radius: number, distances: Distances): number {
  if (!isOddOneOut(distances)) return radius
  const theirs = voters(distances).map((met) => met.radius ?? Number.POSITIVE_INFINITY)
  return Math.min(radius, MOST_RADII * lowerMedian(theirs))
}

/** A partner holds us back where its radius is less than this share of ours and of the distance. */
const HELD_BACK_SHARE = 0.25

export const holdsBack = (distance: number, own: number | undefined, partner: number | undefined): boolean =>
  own !== undefined && partner !== undefined && partner < HELD_BACK_SHARE * Math.min(own, distance)

/**
 * Most of those we know hold us back: they are near each other and we are not. Waiting does not help, since nobody will
 * follow us and we may follow nobody; a look at several states does (catch-up.ts).
 */
export function isOddOneOut(distances: Distances): boolean {
  const known = voters(distances)
  return known.length >= MIN_MAJORITY && 2 * known.filter(({ heldBack }) => heldBack).length > known.length
}

/** Radii beyond which a partner moves us less the farther away it is. */
const DISTRUST_RADII = 1.5

/**
 * The share of a difference that is followed: all of it within the radius; beyond it so much that we move as if the partner
 * stood on the radius, and beyond DISTRUST_RADII less and less, as 1 / distance (a redescending influence, Hampel 1974). A
 * liar thus has most to win where honest peers are, and one that shouts is not heard; but somebody far away for a good reason
 * is still approached. Both ends take the smaller of their two radii, so they clip alike and their weighted mean stays
 * where it is; a partner that announces a tiny radius only holds itself back.
 */
export function clipScale(radius: number, distance: number): number {
  if (distance <= radius) return 1
  return (radius / distance) * Math.min(1, (DISTRUST_RADII * radius) / distance)
}
