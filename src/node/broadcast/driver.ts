import type { Head } from '../../codec/wire/update.js'
import { headsOf, lacks, sameHeads } from '../../consensus/broadcast/sync.js'
import { SYNC_PROTOCOL, updatesTopic } from '../../gossip/topics.js'
import type { PeerId } from '../../gossip/transport.js'
import { adopt } from './adoption.js'
import { compact } from './compaction.js'
import { answer, MAX_SYNCS_AT_ONCE, talkWith } from './conversation.js'
import { perform } from './effects.js'
import { deliver, validator } from './pubsub.js'
import { type BroadcastDriverParts, type BroadcastRun, createBroadcastRun } from './run.js'
import type { BroadcastStats } from '../participant/broadcast-stats.js'

/** The broadcast machine at work on a transport. */
export interface BroadcastDriver {
  /** Listens and answers from now on. */
  start(): void
  /** Tells everybody what was learned since the last time. Throws for our own bugs and for a stopped chain. */
  publish(weighing: { readonly samples: number; readonly totalSamples: number }): void
  /** One conversation, in which both tell what the other lacks. Never rejects; false: it came to nothing. */
  synchronise(peer: PeerId): Promise<boolean>
  /** What a peer said it had, the last time. */
  heads(peer: PeerId): readonly Head[] | undefined
  /** Has this peer, when it last said so, counted exactly what we have? */
  agreesWith(peer: PeerId): boolean
  /** Compacts old updates where more bytes of them are kept than MAX_HELD_BYTES. */
  compact(): Promise<void>
  stats(): BroadcastStats
  stop(): Promise<void>
}

export function createBroadcastDriver(parts: BroadcastDriverParts): BroadcastDriver {
  const { transport, config, broadcaster } = parts
  const run = createBroadcastRun(parts, synchronise)
  return {
    start() {
      transport.handle(SYNC_PROTOCOL, (channel) => answer(run, channel))
      transport.subscribe(updatesTopic(config.federation), validator(run), (from, bytes) => deliver(run, from, bytes))
    },
    publish: (weighing) =>
      perform(
        run,
        parts.withLive(() => broadcaster.publish(weighing))
      ),
    synchronise: run.synchronise,
    heads: (peer) => run.heads.get(peer),
    agreesWith(peer) {
      const heads = run.heads.get(peer)
      return heads !== undefined && sameHeads(heads, headsOf(broadcaster.state()))
    },
    compact: () => compact(run),
    stats: () => statsOf(run),
    async stop() {
      run.stopped = true
      for (const channel of run.channels) channel.abort(new Error('leaving'))
      await Promise.all(run.talks.values())
    }
  }
}

function synchronise(run: BroadcastRun, peer: PeerId): Promise<boolean> {
  const underWay = run.talks.get(peer)
  if (underWay !== undefined) return underWay
  if (run.stopped || run.talks.size >= MAX_SYNCS_AT_ONCE) return Promise.resolve(false)
  const talk = ask(run, peer).catch((error) => {
    run.parts.onBroken(error)
    return false
  })
  run.talks.set(peer, talk)
  return talk.finally(() => run.talks.delete(peer))
}

async function ask(run: BroadcastRun, peer: PeerId): Promise<boolean> {
  const steps = await talkWith(run, peer, undefined)
  const snapshot = steps.find((step) => step.snapshot !== undefined)?.snapshot
  if (snapshot !== undefined) await adopt(run, peer, snapshot)
  return steps.some((step) => step.over)
}

function statsOf(run: BroadcastRun): BroadcastStats {
  const { parts, counters, verdicts, heads } = run
  const { broadcaster } = parts
  const own = headsOf(broadcaster.state())
  const ahead = [...heads.values()].filter((theirs) => lacks(broadcaster.state(), theirs)).length
  const authors = [...broadcaster.state().authors.values()]
  return {
    ...counters,
    heads: own,
    held: authors.reduce((sum, { held }) => sum + held.length, 0),
    waiting: authors.reduce((sum, { waiting }) => sum + waiting.size, 0),
    peersAhead: ahead,
    replicaHash: hashNow(run),
    verdicts: Object.fromEntries(verdicts)
  }
}

function hashNow(run: BroadcastRun): string {
  const { broadcaster } = run.parts
  const at = broadcaster.state()
  if (run.hashed?.at !== at) run.hashed = { at, hash: broadcaster.hash() }
  return run.hashed.hash
}
