import type { Clock } from '../base/clock.js'
import { describeError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import { ACCEPT, reject, type Verdict } from '../base/verdict.js'
import type { BroadcastLog } from '../checkpoint/broadcast-log.js'
import type { Head, Update } from '../codec/update.js'
import { decodeUpdateFrame, encodeUpdateFrame } from '../codec/wire-update.js'
import { mostUpdateBytes } from '../consensus/broadcast.js'
import {
  createSyncSession,
  MAX_ANSWER_BYTES,
  MAX_SYNC_MESSAGES,
  published,
  type SessionStep,
  type SyncSession,
  tooManyMessages,
  type VerifyBody
} from '../consensus/broadcast-session.js'
import type { BroadcastSnapshot } from '../consensus/broadcast-snapshot.js'
import { headsOf, lacks, sameHeads, stableHeads } from '../consensus/broadcast-sync.js'
import type { BroadcastConfig, BroadcastState, BroadcastVerdictCode } from '../consensus/broadcast-types.js'
import type { Broadcaster, OpenEffect } from '../consensus/broadcaster.js'
import { unitsHash } from '../consensus/fixed-point.js'
import { SYNC_PROTOCOL, updatesTopic } from '../gossip/topics.js'
import type { Channel, PeerId, Transport } from '../gossip/transport.js'
import { readSync, writeSync } from './broadcast-channel.js'
import type { BroadcastStats } from './broadcast-view.js'
import { openChannel } from './open-channel.js'
import { rateLimit } from './rate-limit.js'

/** Milliseconds for one frame; also for opening a channel. */
export const SYNC_FRAME_TIMEOUT_MS = 30_000

/** Conversations one peer may begin at once, and per second after that: one for every update that went missing. */
export const SYNCS_BURST = 20
export const SYNCS_PER_SECOND = 2

/** Conversations under way at once, either way. */
export const MAX_SYNCS_AT_ONCE = 32

/** Bytes of updates kept one by one, 64 MiB; twice that where some peer has not said for long what it has. */
export const MAX_HELD_BYTES = 64 * 1024 * 1024

/** Peers whose heads and budgets are remembered. */
const MAX_REMEMBERED_PEERS = 1024

/** Peers, besides the one that gave it, that must name a snapshot's hash; all others there are where there are fewer. */
export const SNAPSHOT_CONFIRMATIONS = 2

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
  /** The disk has failed. */
  readonly onBroken: (error: unknown) => void
}

/** The broadcast machine at work on a transport. */
export interface BroadcastDriver {
  /** Listens and answers from now on. */
  start(): void
  /** Tells everybody what was learned since the last time. Throws for our own bugs and for a stopped row. */
  publish(weighing: { readonly samples: number; readonly totalSamples: number }): void
  /** One conversation, in which both tell what the other lacks. Never rejects; false: it came to nothing. */
  synchronise(peer: PeerId): Promise<boolean>
  /** What a peer said it had, the last time. */
  heads(peer: PeerId): readonly Head[] | undefined
  /** Has this peer, when it last said so, counted exactly what we have? */
  agreesWith(peer: PeerId): boolean
  /** Adds old updates up where more bytes of them are kept than MAX_HELD_BYTES. */
  compact(): Promise<void>
  stats(): BroadcastStats
  stop(): Promise<void>
}

interface Running {
  readonly parts: BroadcastDriverParts
  readonly heads: Map<PeerId, readonly Head[]>
  /** Conversations under way, by the peer they are with. */
  readonly talks: Map<PeerId, Promise<boolean>>
  readonly channels: Set<Channel>
  readonly passes: (peer: PeerId) => boolean
  readonly byteBudget: (peer: PeerId, count: number) => boolean
  readonly sums: {
    published: number
    counted: number
    caught: number
    snapshots: number
    sent: number
    received: number
  }
  readonly verdicts: Map<string, number>
  /** The replica's hash at a state; asked for more often than it changes. */
  hashed: { readonly at: BroadcastState; readonly hash: string } | undefined
  stopped: boolean
}

export function createBroadcastDriver(parts: BroadcastDriverParts): BroadcastDriver {
  const { transport, config, clock, broadcaster } = parts
  const bytesEach = mostUpdateBytes(config)
  const driver: Running = {
    parts,
    heads: new Map(),
    talks: new Map(),
    channels: new Set(),
    passes: rateLimit(clock, { burst: SYNCS_BURST, perSecond: SYNCS_PER_SECOND, maxKeys: MAX_REMEMBERED_PEERS }),
    // A whole answer and a sum at once, then what conversations at their rate may carry at the most.
    byteBudget: rateLimit(clock, {
      burst: 4 * (MAX_ANSWER_BYTES + bytesEach + 8 * config.rule.size),
      perSecond: SYNCS_PER_SECOND * (MAX_ANSWER_BYTES + bytesEach),
      maxKeys: MAX_REMEMBERED_PEERS
    }),
    sums: { published: 0, counted: 0, caught: 0, snapshots: 0, sent: 0, received: 0 },
    verdicts: new Map(),
    hashed: undefined,
    stopped: false
  }
  return {
    start() {
      transport.handle(SYNC_PROTOCOL, (channel) => answer(driver, channel))
      transport.subscribe(updatesTopic(config.federation), validator(driver), (from, bytes) =>
        deliver(driver, from, bytes)
      )
    },
    publish: (weighing) =>
      perform(
        driver,
        parts.withLive(() => broadcaster.publish(weighing))
      ),
    synchronise: (peer) => synchronise(driver, peer),
    heads: (peer) => driver.heads.get(peer),
    agreesWith(peer) {
      const heads = driver.heads.get(peer)
      return heads !== undefined && sameHeads(heads, headsOf(broadcaster.state()))
    },
    compact: () => compact(driver),
    stats: () => statsOf(driver),
    async stop() {
      driver.stopped = true
      for (const channel of driver.channels) channel.abort(new Error('leaving'))
      await Promise.all(driver.talks.values())
    }
  }
}

function hashNow(driver: Running): string {
  const { broadcaster } = driver.parts
  const at = broadcaster.state()
  if (driver.hashed?.at !== at) driver.hashed = { at, hash: broadcaster.hash() }
  return driver.hashed.hash
}

function statsOf(driver: Running): BroadcastStats {
  const { parts, sums, verdicts, heads } = driver
  const { broadcaster } = parts
  const own = headsOf(broadcaster.state())
  const ahead = [...heads.values()].filter((theirs) => lacks(broadcaster.state(), theirs)).length
  const authors = [...broadcaster.state().authors.values()]
  return {
    ...sums,
    heads: own,
    held: authors.reduce((sum, { held }) => sum + held.length, 0),
    waiting: authors.reduce((sum, { waiting }) => sum + waiting.size, 0),
    peersAhead: ahead,
    replicaHash: hashNow(driver),
    verdicts: Object.fromEntries(verdicts)
  }
}

const heldBytes = ({ parts }: Running): number =>
  [...parts.broadcaster.state().authors.values()].reduce(
    (sum, { held }) => sum + held.reduce((bytes, { body }) => bytes + body.length, 0),
    0
  )

/** First what everybody has; where that is too little for too long, the older half of everything. */
async function compact(driver: Running): Promise<void> {
  const { broadcaster, members, broadcastLog } = driver.parts
  if (heldBytes(driver) <= MAX_HELD_BYTES) return
  const said = members().map((peer) => driver.heads.get(peer))
  const others = said.filter((heads) => heads !== undefined)
  if (others.length === said.length)
    for (const [author, upTo] of stableHeads(broadcaster.state(), others))
      broadcaster.dispatch({ type: 'fold', author, upTo })
  if (heldBytes(driver) > 2 * MAX_HELD_BYTES)
    for (const [author, { base, held }] of broadcaster.state().authors)
      broadcaster.dispatch({ type: 'fold', author, upTo: base + Math.floor(held.length / 2) })
  await broadcastLog?.rebase(() => rebased(broadcaster))
}

const validator =
  ({ parts }: Running) =>
  (from: PeerId, bytes: Uint8Array): Verdict => {
    const { config, broadcaster, verify, transport, onVerdict } = parts
    if (from === transport.self) return ACCEPT
    const frame = decodeUpdateFrame(bytes)
    const verdict = frame.ok ? judged(frame.value) : frame.verdict
    if (verdict.verdict !== 'accept') onVerdict(from, verdict)
    return verdict

    function judged(read: (typeof frame & { ok: true })['value']): Verdict<BroadcastVerdictCode> {
      if (read.type === 'notice') {
        const { federation, sizeBytes } = read.notice
        if (federation !== config.federation) return reject('broadcast/other-federation')
        return sizeBytes <= mostUpdateBytes(config) ? ACCEPT : reject('codec/too-large', `${sizeBytes} bytes announced`)
      }
      if (read.update.author !== from) return reject('broadcast/not-the-author', read.update.author)
      return published(config, broadcaster.state(), read.update, verify)
    }
  }

function deliver(driver: Running, from: PeerId, bytes: Uint8Array): void {
  const { transport, broadcaster, withLive, members } = driver.parts
  const frame = decodeUpdateFrame(bytes)
  if (!frame.ok || from === transport.self || driver.stopped) return
  if (frame.value.type === 'update') {
    const { update } = frame.value
    return perform(
      driver,
      withLive(() => broadcaster.dispatch({ type: 'update', update, from }))
    )
  }
  // The author has it for certain; who is not connected to it hears of it from others.
  if (members().includes(from)) void synchronise(driver, from)
}

function perform(driver: Running, effects: readonly OpenEffect[]): void {
  const { broadcastLog, log, onBroken, members } = driver.parts
  for (const effect of effects) {
    if (effect.type === 'record') {
      driver.sums.counted += effect.entry.kind === 'update' ? 1 : 0
      broadcastLog?.append(effect.entry)
      broadcastLog?.synced().catch(onBroken)
    } else if (effect.type === 'publish') {
      driver.sums.published++
      // On disk before anybody hears of it: never two updates with one number.
      safe(driver).then(
        () => tell(driver, effect.update),
        () => undefined
      )
    } else if (effect.type === 'missing') {
      if (members().includes(effect.from)) void synchronise(driver, effect.from)
    } else if (effect.type === 'caught') {
      driver.sums.caught++
      log.warn(
        { author: effect.author, sequence: effect.pair[0].sequence },
        'an author has written two rows of updates'
      )
      for (const peer of members()) void synchronise(driver, peer)
    } else judge(driver, effect.peer, effect.verdict)
  }
}

const safe = ({ parts }: Running): Promise<void> => parts.broadcastLog?.synced() ?? Promise.resolve()

async function tell({ parts, sums }: Running, update: Update): Promise<void> {
  const { transport, config, log } = parts
  const bytes = encodeUpdateFrame(update)
  sums.sent += bytes.length
  try {
    await transport.publish(updatesTopic(config.federation), bytes)
  } catch (error) {
    // Whoever missed it asks for it.
    log.debug({ error: describeError(error) }, 'could not publish an update')
  }
}

function judge({ parts, verdicts }: Running, peer: PeerId, verdict: Verdict<BroadcastVerdictCode>): void {
  if (verdict.verdict === 'accept') return
  verdicts.set(verdict.code, (verdicts.get(verdict.code) ?? 0) + 1)
  // What comes a second time is how a mesh works.
  if (verdict.code === 'broadcast/duplicate' || verdict.code === 'broadcast/folded') return
  parts.onVerdict(peer, verdict)
}

function synchronise(driver: Running, peer: PeerId): Promise<boolean> {
  const underWay = driver.talks.get(peer)
  if (underWay !== undefined) return underWay
  if (driver.stopped || driver.talks.size >= MAX_SYNCS_AT_ONCE) return Promise.resolve(false)
  const talk = ask(driver, peer).catch((error) => {
    driver.parts.onBroken(error)
    return false
  })
  driver.talks.set(peer, talk)
  return talk.finally(() => driver.talks.delete(peer))
}

async function ask(driver: Running, peer: PeerId): Promise<boolean> {
  const steps = await talkWith(driver, peer, undefined)
  const snapshot = steps.find((step) => step.snapshot !== undefined)?.snapshot
  if (snapshot !== undefined) await adopt(driver, peer, snapshot)
  return steps.some((step) => step.over)
}

/** Opens a conversation and leads it to its end; with `confirm`, also for the hash at these heads. */
async function talkWith(
  driver: Running,
  peer: PeerId,
  confirm: readonly Head[] | undefined
): Promise<readonly SessionStep[]> {
  const { transport, clock } = driver.parts
  const channel = await openChannel(transport, clock, {
    peer,
    protocol: SYNC_PROTOCOL,
    timeoutMs: SYNC_FRAME_TIMEOUT_MS
  })
  if (typeof channel === 'string') return []
  const session = sessionOf(driver, peer, confirm)
  const steps = await converse(driver, channel, session, session.begin())
  await channel.close().catch(() => undefined)
  return steps
}

const sessionOf = (
  { parts: { config, broadcaster, verify } }: Running,
  peer: PeerId,
  confirm?: readonly Head[]
): SyncSession =>
  createSyncSession({ config, broadcaster, verify, peer, ...(confirm === undefined ? {} : { confirm }) })

async function answer(driver: Running, channel: Channel): Promise<void> {
  const { peer } = channel
  if (driver.stopped || driver.channels.size >= MAX_SYNCS_AT_ONCE || !driver.passes(peer)) return channel.close()
  await converse(driver, channel, sessionOf(driver, peer), [])
}

/** Both ends of a conversation: reads until both have said all. Rejects for our own bugs only. */
async function converse(
  driver: Running,
  channel: Channel,
  session: SyncSession,
  first: SessionStep['replies']
): Promise<readonly SessionStep[]> {
  const { peer } = channel
  const steps: SessionStep[] = []
  const onBytes = (count: number): Verdict<BroadcastVerdictCode> | undefined => {
    driver.sums.received += count
    return driver.byteBudget(peer, count) ? undefined : reject('broadcast/over-byte-budget')
  }
  driver.channels.add(channel)
  try {
    if (!(await send(driver, channel, first))) return steps
    for (let messages = 0; ; messages++) {
      const incoming = await readSync(channel, { session, timeoutMs: SYNC_FRAME_TIMEOUT_MS, onBytes })
      if (incoming.kind === 'end') return steps
      if (incoming.kind === 'unreadable') return giveUp(driver, channel, incoming.verdict, steps)
      if (messages >= MAX_SYNC_MESSAGES) return giveUp(driver, channel, tooManyMessages(), steps)
      const step = driver.parts.withLive(() => session.take(incoming.message))
      steps.push(step)
      perform(driver, step.effects)
      if (step.heads !== undefined) remember(driver, peer, step.heads)
      if (step.verdict !== undefined) return giveUp(driver, channel, step.verdict, steps)
      if (!(await send(driver, channel, step.replies)) || step.over) return steps
    }
  } finally {
    driver.channels.delete(channel)
  }
}

function giveUp(
  driver: Running,
  channel: Channel,
  verdict: Verdict<BroadcastVerdictCode>,
  steps: readonly SessionStep[]
): readonly SessionStep[] {
  channel.abort(new Error(verdict.verdict === 'accept' ? 'unreadable' : verdict.code))
  judge(driver, channel.peer, verdict)
  return steps
}

/** False where the link has broken. What we say we have is on disk before we say it. */
async function send(driver: Running, channel: Channel, messages: SessionStep['replies']): Promise<boolean> {
  if (messages.length === 0) return true
  await safe(driver)
  try {
    for (const message of messages)
      await writeSync(channel, message, (count) => {
        driver.sums.sent += count
      })
    return true
  } catch {
    return false
  }
}

function remember({ heads }: Running, peer: PeerId, theirs: readonly Head[]): void {
  heads.delete(peer)
  heads.set(peer, theirs)
  if (heads.size > MAX_REMEMBERED_PEERS) heads.delete(heads.keys().next().value as PeerId)
}

/** Takes a sum over once enough others have named its hash. */
async function adopt(driver: Running, giver: PeerId, snapshot: BroadcastSnapshot): Promise<void> {
  const { members, broadcaster, withLive, log, broadcastLog } = driver.parts
  const others = members().filter((peer) => peer !== giver)
  const hash = unitsHash(snapshot.units)
  let confirmed = 0
  for (const peer of others) {
    if (confirmed >= SNAPSHOT_CONFIRMATIONS) break
    const steps = await talkWith(driver, peer, snapshot.heads)
    if (steps.some((step) => step.confirmed === hash)) confirmed++
  }
  const needed = Math.min(SNAPSHOT_CONFIRMATIONS, others.length)
  if (confirmed < needed) {
    log.warn({ giver, confirmed, needed }, 'a sum of old updates was not confirmed by others')
    return
  }
  if (!withLive(() => broadcaster.adopt(snapshot))) return
  driver.sums.snapshots++
  log.info({ giver, confirmed }, 'took over the sum of old updates')
  await broadcastLog?.rebase(() => rebased(broadcaster))
}

/** The log of what a broadcaster holds now. */
export function rebased(broadcaster: Broadcaster) {
  const { state } = broadcaster.saved()
  const heads = [...state.authors].flatMap(([author, { base, baseHash }]): Head[] =>
    base === 0 ? [] : [{ author, sequence: base, hash: baseHash, base: 0 }]
  )
  const units = broadcaster.unitsAt(heads)
  if (units === undefined) throw new Error('the sum at our own base cannot be told')
  const authors = heads.map(({ author, sequence, hash }) => {
    return [author, { base: sequence, baseHash: hash, held: [], waiting: new Map() }] as const
  })
  const entries = [...state.authors.values()].flatMap(({ held, waiting, stop }) => [
    ...held.map((update) => ({ kind: 'update', update }) as const),
    ...[...waiting.values()].map((update) => ({ kind: 'update', update }) as const),
    ...(stop === undefined ? [] : [{ kind: 'evidence', pair: stop } as const])
  ])
  return { base: { state: { authors: new Map(authors) }, units }, entries }
}
