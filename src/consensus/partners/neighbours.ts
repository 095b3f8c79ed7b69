import { sha256Hex } from '../../base/bytes.js'
import type { OverlaySpec } from '../../base/mixing-rules.js'
import { complete, createOverlay, ring } from './overlay.js'
import type { PeerId } from '../peer-id.js'
import { seededRng } from '../../base/rng.js'

/** An overlay that all members lay out alike, from a seed that all of them know. */
export interface CommonOverlay extends Omit<OverlaySpec, 'kind'> {
  readonly kind: Exclude<OverlaySpec['kind'], 'random'>
  readonly seed: string
}

/** Where a peer stands on a circle: nobody can choose it without choosing another identity. */
const positionOf = (seed: string, circle: number, peer: PeerId): string =>
  sha256Hex(JSON.stringify([seed, circle, peer]))

const around = (seed: string, circle: number, members: readonly PeerId[]): readonly PeerId[] =>
  members
    .map((peer) => ({ peer, position: positionOf(seed, circle, peer) }))
    .sort((a, b) => (a.position < b.position ? -1 : 1))
    .map(({ peer }) => peer)

/** Who stands beside `self` where the overlay is laid along `order`. */
function beside(order: readonly PeerId[], self: PeerId, overlay: readonly (readonly number[])[]): readonly PeerId[] {
  return overlay[order.indexOf(self)]!.map((place) => order[place]!)
}

/**
 * The neighbours of `self` on the overlay that all members lay out alike, each for itself, from who is there and a common
 * seed: no coordinator, and nothing is said about it. Peers stand in the order of a hash, so on a ring somebody who comes
 * or goes changes two neighbourhoods. A random regular overlay is the union of `degree / 2` such rings, each in an order of its own
 * (Law & Siu 2003, https://doi.org/10.1109/INFCOM.2003.1209234): always connected, an expander with high probability, and
 * likewise mended by few. Peers that do not see the same members lay out overlays that differ in few edges; an exchange
 * along an edge that only one end knows of is as good as any other.
 */
export function overlayNeighbours(
  { kind, degree, seed }: CommonOverlay,
  self: PeerId,
  others: readonly PeerId[]
): readonly PeerId[] {
  const members = [...new Set([self, ...others])]
  const size = members.length
  if (size <= 2) return members.filter((peer) => peer !== self)
  if (kind === 'random-regular' && size > degree + 1) {
    const circles = Array.from({ length: degree / 2 }, (_, circle) =>
      beside(around(seed, circle, members), self, ring(size))
    )
    return [...new Set(circles.flat())].sort()
  }
  const order = around(seed, 0, members)
  const overlay = kind === 'random-regular' ? complete(size) : createOverlay(kind, { size, rng: seededRng(seed) })
  return beside(order, self, overlay)
}
