import type { Head } from '../codec/update.js'
import { authorOf } from './broadcast.js'
import { SNAPSHOT_CONFIRMATIONS } from './broadcast-adoption.js'
import { heldBy } from './broadcast-sync.js'
import type { BroadcastState } from './broadcast-types.js'
import type { Broadcaster } from './broadcaster.js'
import type { PeerId } from './peer-id.js'

/** Bytes of updates kept one by one, 64 MiB; twice that where some peer has not said for long what it has. */
export const MAX_HELD_BYTES = 64 * 1024 * 1024

/** Whoever gives a sum, and those that confirm it: two newcomers at once can confirm nothing to each other. */
const MIN_HOLDERS = 1 + SNAPSHOT_CONFIRMATIONS

/** Times MAX_HELD_BYTES that are kept where too few have them to be added up; half a gigabyte. */
const MOST_TIMES = 8

/**
 * Whether a peer should say nothing new before most others have what it keeps for them: in a network that has come apart
 * each part would pile up its own updates without an end.
 */
export const isFull = (broadcaster: Broadcaster, maxHeldBytes = MAX_HELD_BYTES): boolean =>
  heldBytes(broadcaster.state()) > MOST_TIMES * maxHeldBytes

export interface FoldingParts {
  /** What others have said they had, the last time each of them spoke. */
  readonly said: ReadonlyMap<PeerId, readonly Head[]>
  /** Others that are connected now. */
  readonly connected: readonly PeerId[]
  /** Others that have been heard of, whether they are there or not. Authors count in any case. */
  readonly known: readonly PeerId[]
  readonly self: PeerId
  /** Default: MAX_HELD_BYTES. */
  readonly maxHeldBytes?: number
}

/**
 * Adds old updates up where more bytes of them are held than `maxHeldBytes`: what more than two thirds of all peers known
 * have counted, three at the least, and everybody who is connected; of twice as many bytes what two thirds have. Nothing else: whoever lacks a
 * body that is gone must find others with the same sum, and of two halves of a network that have each added up what the
 * other lacks neither could take the other's. False where there was nothing to do.
 */
export function foldSurplus(broadcaster: Broadcaster, parts: FoldingParts): boolean {
  const { said, connected, maxHeldBytes = MAX_HELD_BYTES } = parts
  const before = broadcaster.state()
  if (heldBytes(before) <= maxHeldBytes) return false
  const byMost = heldBy(before, [...said.values()], mostOf(before, parts))
  const byAll = heldBy(
    before,
    connected.map((peer) => said.get(peer) ?? []),
    connected.length + 1
  )
  for (const [author, upTo] of byMost) fold(broadcaster, author, Math.min(upTo, byAll.get(author) ?? 0))
  if (heldBytes(broadcaster.state()) > 2 * maxHeldBytes)
    for (const [author, upTo] of byMost) fold(broadcaster, author, upTo)
  return heldBytes(broadcaster.state()) < heldBytes(before)
}

function fold(broadcaster: Broadcaster, author: PeerId, upTo: number): void {
  if (upTo > authorOf(broadcaster.state(), author).base) broadcaster.dispatch({ type: 'fold', author, upTo })
}

/** More than two thirds: of any two such crowds a third of all is in both, so that there is somebody who has both sums. */
function mostOf({ authors }: BroadcastState, { known, self }: FoldingParts): number {
  const all = new Set([...known, ...authors.keys(), self])
  return Math.max(MIN_HOLDERS, Math.floor((2 * all.size) / 3) + 1)
}

const heldBytes = ({ authors }: BroadcastState): number =>
  [...authors.values()].reduce((sum, { held }) => sum + held.reduce((bytes, { body }) => bytes + body.length, 0), 0)
