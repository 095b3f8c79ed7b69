import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Verdict } from '../../base/verdict.js'
import type { BroadcastLog } from '../../checkpoint/broadcast-log.js'
import type { Head } from '../../codec/wire/update.js'
import { mostUpdateBytes } from '../../consensus/broadcast/broadcast.js'
import { MAX_ANSWER_BYTES, type VerifyBody } from '../../consensus/broadcast/conversation.js'
import type { BroadcastConfig, BroadcastState, BroadcastVerdictCode } from '../../consensus/broadcast/types.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import type { Channel, PeerId, Transport } from '../../gossip/transport.js'
import { rateLimit } from '../peers/rate-limit.js'

/** Conversations one peer may begin at once, and per second after that: one for every update that went missing. */
const SYNCS_BURST = 20
const SYNCS_PER_SECOND = 2

/** Peers whose heads and budgets are remembered. */
const MAX_REMEMBERED_PEERS = 1024

export interface BroadcastDriverParts {
  readonly config: BroadcastConfig
  readonly broadcaster: Broadcaster
  readonly transport: Transport
  readonly verify: VerifyBody
  readonly broadcastLog: BroadcastLog | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
  /** The live parameters are the caller's: brings them to the broadcaster, lets it work, and takes them back. */
  readonly withLive: <T>(work: () => T) => T
  /** Peers of the federation connected now. */
  readonly members: () => readonly PeerId[]
  /** Whether a peer is there, or was heard of within ABSENT_MS. */
  readonly isAround: (peer: PeerId) => boolean
  /** Bytes of updates kept one by one; default: MAX_HELD_BYTES. */
  readonly maxHeldBytes?: number
  /** An update of somebody else was counted, or a conversation has told both all that the other had. */
  readonly onContact: () => void
  /** The disk has failed. */
  readonly onBroken: (error: unknown) => void
}

/** What the pieces of a broadcast driver share while it runs. */
export interface BroadcastRun {
  readonly parts: BroadcastDriverParts
  readonly heads: Map<PeerId, readonly Head[]>
  /** Conversations under way, by the peer they are with. */
  readonly talks: Map<PeerId, Promise<boolean>>
  readonly channels: Set<Channel>
  readonly passes: (peer: PeerId) => boolean
  readonly byteBudget: (peer: PeerId, count: number) => boolean
  readonly counters: {
    published: number
    counted: number
    equivocations: number
    snapshots: number
    sent: number
    received: number
  }
  readonly verdicts: Map<string, number>
  /** Begins a conversation, or joins the one under way; updates ask for them, and they bring updates. */
  readonly synchronise: (peer: PeerId) => Promise<boolean>
  /** The replica's hash at a state; asked for more often than it changes. */
  hashed: { readonly at: BroadcastState; readonly hash: string } | undefined
  stopped: boolean
}

export function createBroadcastRun(
  parts: BroadcastDriverParts,
  synchronise: (run: BroadcastRun, peer: PeerId) => Promise<boolean>
): BroadcastRun {
  const { clock, config } = parts
  const bytesEach = mostUpdateBytes(config)
  const run: BroadcastRun = {
    parts,
    heads: new Map(),
    talks: new Map(),
    channels: new Set(),
    passes: rateLimit(clock, { burst: SYNCS_BURST, perSecond: SYNCS_PER_SECOND, maxKeys: MAX_REMEMBERED_PEERS }),
    // A whole answer and a snapshot at once, then what conversations at their rate may carry at the most.
    byteBudget: rateLimit(clock, {
      burst: 4 * (MAX_ANSWER_BYTES + bytesEach + 8 * config.rule.size),
      perSecond: SYNCS_PER_SECOND * (MAX_ANSWER_BYTES + bytesEach),
      maxKeys: MAX_REMEMBERED_PEERS
    }),
    counters: { published: 0, counted: 0, equivocations: 0, snapshots: 0, sent: 0, received: 0 },
    verdicts: new Map(),
    synchronise: (peer) => synchronise(run, peer),
    hashed: undefined,
    stopped: false
  }
  return run
}

/** What this peer says it has, for as long as it is among those who spoke last. */
export function remember({ heads }: BroadcastRun, peer: PeerId, theirs: readonly Head[]): void {
  heads.delete(peer)
  heads.set(peer, theirs)
  if (heads.size > MAX_REMEMBERED_PEERS) heads.delete(heads.keys().next().value as PeerId)
}

/** Counts a judgement, and lets it cost the peer something where it should. */
export function judge({ parts, verdicts }: BroadcastRun, peer: PeerId, verdict: Verdict<BroadcastVerdictCode>): void {
  if (verdict.verdict === 'accept') return
  verdicts.set(verdict.code, (verdicts.get(verdict.code) ?? 0) + 1)
  // What comes a second time is how a mesh works.
  if (verdict.code === 'broadcast/duplicate' || verdict.code === 'broadcast/compacted') return
  parts.onVerdict(peer, verdict)
}

/** Resolves when all that was counted is on disk. */
export const safe = ({ parts }: BroadcastRun): Promise<void> => parts.broadcastLog?.synced() ?? Promise.resolve()
