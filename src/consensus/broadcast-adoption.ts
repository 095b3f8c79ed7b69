import type { BroadcastSnapshot } from './broadcast-snapshot.js'
import { unitsHash } from './fixed-point.js'
import type { PeerId } from './peer-id.js'

/** Peers, besides the one that gave it, that must name a snapshot's hash; all that can tell where there are fewer. */
export const SNAPSHOT_CONFIRMATIONS = 2

/** A sum that somebody has given us, on its way to be believed. */
export interface Adoption {
  readonly snapshot: BroadcastSnapshot
  /** Of those that have not said that they cannot tell. */
  needed(): number
  /** Whom to ask next for the hash at the snapshot's heads; nobody once it is decided. */
  next(): PeerId | undefined
  /** What the last one asked has named; null where it cannot tell, nothing where it did not answer. */
  heard(hash: string | null | undefined): void
  confirmed(): number
  /** Once nobody is to be asked any more. */
  believed(): boolean
}

export function createAdoption(giver: PeerId, snapshot: BroadcastSnapshot, present: readonly PeerId[]): Adoption {
  const others = present.filter((peer) => peer !== giver)
  const hash = unitsHash(snapshot.units)
  let asked = 0
  let confirmed = 0
  let ignorant = 0
  const needed = (): number => Math.min(SNAPSHOT_CONFIRMATIONS, others.length - ignorant)
  return {
    snapshot,
    needed,
    next: () => (confirmed >= needed() ? undefined : others[asked++]),
    heard(named) {
      if (named === hash) confirmed++
      if (named === null) ignorant++
    },
    confirmed: () => confirmed,
    believed: () => confirmed >= needed()
  }
}
