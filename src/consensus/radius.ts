import type { PeerId } from './peer-id.js'

/**
 * Partners whose distance is remembered, the one met longest ago forgotten first. One number for each: however often a
 * partner calls, it has one vote on what is usual.
 */
export const MAX_DISTANCES = 32

/** The default of `mixing.clip`: partners up to twice as far as the usual one are followed whole. */
export const DEFAULT_CLIP = 2

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

/**
 * The share of a difference that is followed: min(1, radius / distance). Both ends take the smaller of their two radii, so
 * they clip alike and their weighted mean stays where it is; a partner that announces a tiny one only holds itself back.
 */
export const clipScale = (radius: number, distance: number): number => (distance > radius ? radius / distance : 1)
