import type { PeerId } from './peer-id.js'

/**
 * Partners whose distance is remembered, the one met longest ago forgotten first. One number for each: however often a
 * partner calls, it has one vote on what is usual.
 */
export const MAX_DISTANCES = 32

/**
 * A `mixing.clip` for federations that expect liars: honest peers are followed about half of the way, which costs a few more exchanges, and 0.7
 * points of accuracy where labels are split. Liars, a quarter of all peers, then cost at most 4.6 points there; with 1 it is
 * 10 and with 2 more than half of everything (bench/attack.ts).
 */
export const SUGGESTED_CLIP = 0.5

/** Distance at the last exchange with each partner, before clipping; the latest last. */
export type Distances = ReadonlyMap<PeerId, number>

export function noteDistance(distances: Distances, peer: PeerId, distance: number): Distances {
  const next = new Map(distances)
  next.delete(peer)
  next.set(peer, distance)
  for (const oldest of next.keys()) {
    if (next.size <= MAX_DISTANCES) break
    next.delete(oldest)
  }
  return next
}

/** The middle one, the smaller of the two in the middle. */
function lowerMedian(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[(sorted.length - 1) >> 1] ?? 0
}

/**
 * The length up to which we follow a partner: `clip` times the median distance to our partners. Self-centred clipping (He,
 * Karimireddy & Jaggi 2022, https://arxiv.org/abs/2202.01545) with a radius that adapts, since nobody knows who is honest.
 * The way we have come from the common start counts as one more partner: it is what we can go by before we have met any,
 * and honest peers come about as far. Up to half of our partners may lie without moving the median past an honest one.
 */
export const radiusOf = (clip: number, distances: Distances, travelled: number): number =>
  clip * lowerMedian([...distances.values(), travelled])

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
