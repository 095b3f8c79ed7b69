import type { ExchangeFate, ExchangeId, Phase } from '../../codec/wire/messages.js'
import {
  doubtAbout,
  enterDoubt,
  type ExchangeRole,
  type Journal,
  leaveDoubt,
  noteAccepted,
  noteCommitted,
  type Observation
} from './journal.js'
import type { PeerId } from '../peer-id.js'

/**
 * What must outlive a crash although the checkpoint is older: the exchanges since then. A checkpoint alone is not
 * enough, because a partner keeps its half of an exchange that we would forget, and the weighted mean of the network
 * moves for good. Write-ahead logging, with the rule that what was promised to others is on disk first (ARIES, Mohan et
 * al. 1992, https://doi.org/10.1145/128765.128770).
 */
export type LogEntry =
  /** Initiator, before COMMIT is sent. */
  | {
      readonly kind: 'in-doubt'
      readonly exchangeId: ExchangeId
      readonly peer: PeerId
      readonly partnerPhase: Phase
      readonly increment: Float32Array
      readonly observed?: Observation
    }
  /** Initiator, with the responder's word. May be lost: it is then asked for again, and is the same again. */
  | {
      readonly kind: 'settled'
      readonly exchangeId: ExchangeId
      readonly peer: PeerId
      readonly fate: ExchangeFate
    }
  /** Responder, before ACK is sent or RESOLVE is answered. */
  | {
      readonly kind: 'committed'
      readonly exchangeId: ExchangeId
      readonly peer: PeerId
      readonly partnerPhase: Phase
      readonly increment: Float32Array
    }

/** An exchange made since the checkpoint: its increment must be added to the checkpoint's parameters. */
export interface ReplayedExchange {
  readonly exchangeId: ExchangeId
  readonly peer: PeerId
  readonly role: ExchangeRole
  readonly partnerPhase: Phase
  readonly increment: Float32Array
}

/**
 * The journal as it was when the last entry was written, and the exchanges made on the way, in order. `entries` are those
 * since `journal` was saved; a prefix of what was appended gives a state this node was once in. Pure.
 */
export function replayLog(
  journal: Journal,
  entries: Iterable<LogEntry>
): readonly [Journal, readonly ReplayedExchange[]] {
  const made: ReplayedExchange[] = []
  let now = journal
  for (const entry of entries) now = replayEntry(now, entry, made)
  return [now, made]
}

function replayEntry(journal: Journal, entry: LogEntry, made: ReplayedExchange[]): Journal {
  const { exchangeId, peer } = entry
  if (entry.kind === 'in-doubt') {
    const { kind: _, ...record } = entry
    return enterDoubt(journal, record)[0]
  }
  if (entry.kind === 'settled') {
    const record = doubtAbout(journal, peer, exchangeId)
    if (record === undefined) return journal
    if (entry.fate === 'committed') made.push({ ...record, role: 'initiator' })
    return leaveDoubt(journal, record)
  }
  const { partnerPhase, increment } = entry
  made.push({ exchangeId, peer, role: 'responder', partnerPhase, increment })
  return noteCommitted(noteAccepted(journal, peer, exchangeId), peer, exchangeId)
}
