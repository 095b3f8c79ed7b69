import type { Head } from '../../codec/wire/update.js'
import { authorOf } from './broadcast.js'
import { SNAPSHOT_CONFIRMATIONS } from './adoption.js'
import { heldBy } from './sync.js'
import type { BroadcastState } from './types.js'
import type { Broadcaster } from './broadcaster.js'
import type { PeerId } from '../peer-id.js'

/** Bytes of updates kept one by one, 64 MiB; twice that where some peer has not said for long what it has. */
export const MAX_HELD_BYTES = 64 * 1024 * 1024

/** Whoever gives a snapshot, and those that confirm it; all there are where there are fewer. */
const MIN_HOLDERS = 1 + SNAPSHOT_CONFIRMATIONS

/** Times MAX_HELD_BYTES that are kept where too few have them to be compacted; half a gigabyte. */
const MOST_TIMES = 8

/** Milliseconds, an hour, for which a peer that has gone is waited for where there is no more room. */
export const ABSENT_MS = 3_600_000

/**
 * Whether a peer should say nothing new before most others have what it keeps for them: in a network that has come apart
 * each part would pile up its own updates without an end.
 */
export const isFull = (broadcaster: Broadcaster, maxHeldBytes = MAX_HELD_BYTES): boolean =>
  heldBytes(broadcaster.state()) > MOST_TIMES * maxHeldBytes

export interface CompactionParts {
  /** What others have said they had, the last time each of them spoke. */
  readonly said: ReadonlyMap<PeerId, readonly Head[]>
  /** Others that are connected now. */
  readonly connected: readonly PeerId[]
  /** Others whose word counts, whether they are there or not: those that write, not whoever calls. */
  readonly counted: readonly PeerId[]
  /** Those of them that were heard of within ABSENT_MS. */
  readonly around: readonly PeerId[]
  readonly self: PeerId
  /** Default: MAX_HELD_BYTES. */
  readonly maxHeldBytes?: number
}

/**
 * Compacts old updates where more bytes of them are held than `maxHeldBytes`: what more than two thirds of all that count
 * have, three at the least, and everybody who is connected; of twice as many bytes what two thirds have, and where there is
 * no more room two thirds of those heard of within an hour. Nothing else: whoever lacks a body that is gone must find
 * others with the same snapshot, and of two halves of a network that have each compacted what the other lacks neither could
 * take the other's. False where there was nothing to do.
 */
export function compactSurplus(broadcaster: Broadcaster, parts: CompactionParts): boolean {
  const { said, connected, counted, around, maxHeldBytes = MAX_HELD_BYTES } = parts
  const before = heldBytes(broadcaster.state())
  if (before <= maxHeldBytes) return false
  const byMost = heldByMost(broadcaster.state(), counted, said)
  const byAll = heldBy(
    broadcaster.state(),
    connected.map((peer) => said.get(peer) ?? []),
    connected.length + 1
  )
  for (const [author, upTo] of byMost) compactUpTo(broadcaster, author, Math.min(upTo, byAll.get(author) ?? 0))
  if (heldBytes(broadcaster.state()) > 2 * maxHeldBytes)
    for (const [author, upTo] of byMost) compactUpTo(broadcaster, author, upTo)
  if (isFull(broadcaster, maxHeldBytes))
    for (const [author, upTo] of heldByMost(broadcaster.state(), around, said)) compactUpTo(broadcaster, author, upTo)
  return heldBytes(broadcaster.state()) < before
}

/** Of us and `others` more than two thirds: of any two such crowds a third of all is in both, so that somebody has both snapshots. */
function heldByMost(state: BroadcastState, others: readonly PeerId[], said: CompactionParts['said']) {
  const all = others.length + 1
  const most = Math.max(Math.min(MIN_HOLDERS, all), Math.floor((2 * all) / 3) + 1)
  return heldBy(
    state,
    others.flatMap((peer) => {
      const heads = said.get(peer)
      return heads === undefined ? [] : [heads]
    }),
    Math.min(most, all)
  )
}

function compactUpTo(broadcaster: Broadcaster, author: PeerId, upTo: number): void {
  if (upTo > authorOf(broadcaster.state(), author).base) broadcaster.dispatch({ type: 'compact', author, upTo })
}

const heldBytes = ({ authors }: BroadcastState): number =>
  [...authors.values()].reduce((sum, { held }) => sum + held.reduce((bytes, { body }) => bytes + body.length, 0), 0)
