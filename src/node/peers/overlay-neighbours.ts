import type { Clock } from '../../base/clock.js'
import type { OverlaySpec } from '../../base/mixing-rules.js'
import { overlayNeighbours } from '../../consensus/partners/neighbours.js'
import { present } from '../../consensus/partners/peers.js'
import type { PeerId } from '../../gossip/transport.js'
import type { Membership } from './membership.js'

export interface OverlayNeighboursParts {
  readonly spec: OverlaySpec | undefined
  /** Common to all members: the federation's hash. */
  readonly seed: string
  readonly self: PeerId
  readonly membership: Pick<Membership, 'members' | 'table'>
  readonly clock: Clock
}

/** Our neighbours on the federation's overlay among those connected or heard of lately; laid out anew when these change. */
export function createOverlayNeighbours(parts: OverlayNeighboursParts): (() => readonly PeerId[]) | undefined {
  const { spec, seed, self, membership, clock } = parts
  if (spec === undefined || spec.kind === 'random') return undefined
  const { kind, degree } = spec
  let known = ''
  let neighbours: readonly PeerId[] = []
  return () => {
    const others = [...new Set([...membership.members(), ...present(membership.table(), clock.now())])].sort()
    const key = others.join(' ')
    if (key !== known) neighbours = overlayNeighbours({ kind, degree, seed }, self, others)
    known = key
    return neighbours
  }
}
