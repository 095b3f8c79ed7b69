import type { BroadcastSnapshot } from './snapshot.js'
import { unitsHash } from './fixed-point.js'
import type { PeerId } from '../peer-id.js'

/** Peers, besides the one that gave it, that must name a snapshot's hash, where so many can. */
export const SNAPSHOT_CONFIRMATIONS = 2

/** What those that were asked have said of a snapshot; the others did not answer. */
export interface Answers {
  readonly confirmed: number
  readonly contradicted: number
  /** That cannot tell, since they have not counted so much, or cannot go back to it. */
  readonly ignorant: number
}

/** A snapshot that somebody has given us, on its way to be believed. */
export interface Adoption {
  readonly snapshot: BroadcastSnapshot
  /** Whom to ask next for the hash at the snapshot's heads; nobody once it is decided. */
  next(): PeerId | undefined
  /** What the last one asked has named; null where it cannot tell, nothing where it did not answer. */
  heard(hash: string | null | undefined): void
  answers(): Answers
  /**
   * Once nobody is to be asked any more: two have named its hash; or at least one has, and with the giver these are more than
   * have named another; or there is nobody else who could tell. A quarter of liars can thus neither make somebody believe
   * a snapshot nor, by silence or another hash, keep everybody from believing the right one.
   */
  believed(): boolean
}

export function createAdoption(giver: PeerId, snapshot: BroadcastSnapshot, present: readonly PeerId[]): Adoption {
  const others = present.filter((peer) => peer !== giver)
  const hash = unitsHash(snapshot.units)
  let asked = 0
  let [confirmed, contradicted, ignorant] = [0, 0, 0]
  const isConfirmed = (): boolean => confirmed >= SNAPSHOT_CONFIRMATIONS
  return {
    snapshot,
    next: () => (isConfirmed() ? undefined : others[asked++]),
    heard(named) {
      if (named === hash) confirmed++
      else if (named === null) ignorant++
      else if (named !== undefined) contradicted++
    },
    answers: () => ({ confirmed, contradicted, ignorant }),
    believed: () => isConfirmed() || (confirmed > 0 ? confirmed + 1 > contradicted : ignorant === others.length)
  }
}
