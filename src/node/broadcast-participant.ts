import type { JsonValue } from '../base/json.js'
import { PeertuneError } from '../base/errors.js'
import { seededRng } from '../base/rng.js'
import type { BroadcastLog } from '../checkpoint/broadcast-log.js'
import type { NodeState } from '../checkpoint/state.js'
import { pseudoGradientCodec } from '../codec/registry.js'
import { authorOf } from '../consensus/broadcast.js'
import type { VerifyBody } from '../consensus/broadcast-session.js'
import type { BroadcastConfig } from '../consensus/broadcast-types.js'
import { type Broadcaster, createBroadcaster, type SignBody } from '../consensus/broadcaster.js'
import { present } from '../consensus/peers.js'
import { SETTLE_PATIENCE_MS, waited } from '../consensus/rounds.js'
import { headOf } from '../consensus/update-chain.js'
import { subtract } from '../tensor/linear.js'
import { type BroadcastDriver, createBroadcastDriver } from './broadcast-driver.js'
import { IDLE_MS } from './loop.js'
import { createMembership, type Membership, surroundingsOf } from './membership.js'
import {
  conclude,
  createLearner,
  type Learner,
  newsOf,
  type Participant,
  type ParticipantParts,
  type ParticipantView
} from './participant.js'
import { journalOf, type SavedJournal } from './recovery.js'

/** Milliseconds between two conversations without a reason: what got lost on the way is found by then. */
export const SYNC_INTERVAL_MS = 5_000

/**
 * Milliseconds that a peer waits before its first update for the others to say who they are: its weight depends on theirs,
 * and its own row may be longer than its disk knows.
 */
export const GREETING_MS = 15_000

export interface BroadcastParticipantParts extends Omit<ParticipantParts, 'exchangeLog'> {
  /** Without it, a restarted peer may use a number twice, and is then stopped. */
  readonly broadcastLog?: BroadcastLog
  /** As this peer. */
  readonly sign: SignBody
  readonly verify: VerifyBody
}

/** In a checkpoint beside the exchange journal, which stays empty. */
interface SavedRow {
  /** Number of our last update when the checkpoint was made. */
  readonly ownUpdates?: number
}

/** Sections of a checkpoint: what was learned and not told, float32[whole]. */
const PROGRESS = 'broadcast/progress'
const RESIDUAL = 'broadcast/residual'

interface Running {
  readonly parts: BroadcastParticipantParts
  readonly learner: Learner
  readonly broadcaster: Broadcaster
  /** float32[shared]: what the broadcaster takes for the live parameters. */
  readonly shared: Float32Array
  readonly withLive: <T>(work: () => T) => T
  readonly driver: BroadcastDriver
  readonly membership: Membership
  readonly failure: AbortController
  readonly before: NodeState | undefined
  /** Conversations that came to nothing. */
  failures: number
  published: number
  saved: ParticipantView['saved']
  evaluation: ParticipantView['evaluation']
}

/** A node of a federation that broadcasts: trains, tells what it learned, and counts what others tell. */
export async function createBroadcastParticipant(parts: BroadcastParticipantParts): Promise<Participant> {
  const { store, federation, trainer, log } = parts
  const saved = await store.load({ federationHash: federation, schemaHash: trainer.description.schema.hash })
  if (saved) log.info({ step: saved.step, exchanges: saved.exchanges }, 'going on from the last checkpoint')
  const running = await wire(parts, createLearner(parts, saved), saved)
  return { run: (signal) => live(running, signal), view: () => viewOf(running) }
}

async function wire(
  parts: BroadcastParticipantParts,
  learner: Learner,
  saved: NodeState | undefined
): Promise<Running> {
  const { transport, federation, clock, log, onVerdict, verify, broadcastLog } = parts
  const failure = new AbortController()
  const shared = learner.shared.take(learner.parameters)
  // Where everything is shared the two are one vector.
  const withLive = <T>(work: () => T): T => {
    if (shared !== learner.parameters) shared.set(learner.shared.take(learner.parameters))
    const result = work()
    if (shared !== learner.parameters) learner.shared.put(shared, learner.parameters)
    return result
  }
  const config = configOf(parts, learner)
  const broadcaster = await recovered(parts, learner, { config, shared, saved })
  if (shared !== learner.parameters) learner.shared.put(shared, learner.parameters)
  const news = () => newsOf(parts, learner.progress)
  const membership = createMembership({ transport, federation, clock, log, onVerdict, news })
  const driver = createBroadcastDriver({
    config,
    broadcaster,
    transport,
    verify,
    broadcastLog,
    clock,
    log,
    onVerdict,
    withLive,
    members: membership.members,
    onBroken: (error) => failure.abort(error)
  })
  return {
    parts,
    learner,
    broadcaster,
    shared,
    withLive,
    driver,
    membership,
    failure,
    before: saved,
    failures: 0,
    published: 0,
    saved: saved && { step: saved.step, atMs: saved.savedAtMs },
    evaluation: undefined
  }
}

function configOf(
  { manifest, transport, federation }: BroadcastParticipantParts,
  { shared }: Learner
): BroadcastConfig {
  const { broadcast } = manifest.mixing
  if (broadcast === undefined)
    throw new PeertuneError('config/no-broadcast', 'the manifest says nothing of what is broadcast', {
      hint: 'mixing.mode: broadcast'
    })
  const { codec, fraction, outerStep, maxStep, maxNorm, maxAuthors, authors } = broadcast
  return {
    self: transport.self,
    federation,
    schemaHash: shared.schema.hash,
    rule: {
      codec: pseudoGradientCodec(codec, { fraction }),
      size: shared.schema.size,
      outerStep,
      maxStep,
      ...(maxNorm === undefined ? {} : { maxNorm })
    },
    maxAuthors,
    ...(authors === undefined ? {} : { authors })
  }
}

/**
 * All that was counted is in the log, whatever the checkpoint knows; of what was learned and not told, what the
 * checkpoint has, if nothing has been told since.
 */
async function recovered(
  { broadcastLog, trainer, manifest, sign, config: { training }, transport }: BroadcastParticipantParts,
  learner: Learner,
  {
    config,
    shared,
    saved
  }: { readonly config: BroadcastConfig; readonly shared: Float32Array; readonly saved: NodeState | undefined }
): Promise<Broadcaster> {
  const { base, entries } = (await broadcastLog?.load()) ?? { base: undefined, entries: [] }
  const broadcaster = createBroadcaster({
    config,
    reference: learner.shared.take(trainer.description.initial),
    live: shared,
    decay: manifest.mixing.broadcast!.decay,
    resumeAt: manifest.mixing.broadcast!.resumeAt,
    sign,
    rng: seededRng(training.seed, transport.self, 'rounding'),
    ...(base && { saved: { ...base, residual: new Float32Array(shared.length) } })
  })
  broadcaster.onReplica()
  broadcaster.replay(entries)
  const { [PROGRESS]: progress, [RESIDUAL]: residual } = saved?.inDoubt ?? {}
  const { ownUpdates } = journalOf(saved) as SavedJournal & SavedRow
  const told = headOf(authorOf(broadcaster.state(), config.self))
  if (progress !== undefined && residual !== undefined && told === ownUpdates)
    broadcaster.restore({ progress: learner.shared.take(progress), residual: learner.shared.take(residual) })
  return broadcaster
}

function viewOf({ parts, learner, driver, membership, before, saved, evaluation, failures }: Running): ParticipantView {
  const { progress } = learner
  return {
    rounds: progress.rounds(),
    loss: progress.loss(),
    stepsPerSecond: progress.stepsPerSecond(),
    evaluation,
    saved,
    bytesBefore: { sent: before?.bytesSent ?? 0, received: before?.bytesReceived ?? 0 },
    failures: failures === 0 ? {} : { 'broadcast/no-conversation': failures },
    broadcast: driver.stats(),
    membership,
    caughtUp: undefined,
    statesGiven: 0,
    neighbours: undefined,
    exchangesWith: (peer) =>
      driver.stats().heads.find(({ author }) => author === peer && author !== parts.transport.self)?.sequence ?? 0
  }
}

/** A checkpoint of this tick: parameters and what was not told of them belong together. */
async function save(running: Running): Promise<void> {
  const { parts, learner, broadcaster, before, driver } = running
  const { federation, trainer, transport, clock, store } = parts
  const { step, exchanges, phase, lastExchangeStep, settled } = learner.progress.rounds()
  const { bytesSent, bytesReceived } = transport.traffic()
  const shared = learner.shared.take(learner.parameters)
  const ownUpdates = headOf(authorOf(broadcaster.state(), transport.self))
  const journal: SavedJournal & SavedRow = { inDoubt: [], accepted: [], lastExchangeStep, settled, ownUpdates }
  const state: NodeState = {
    federationHash: federation,
    schemaHash: trainer.description.schema.hash,
    step,
    exchanges,
    phase,
    parameters: learner.parameters,
    adam: learner.optimiser.state(),
    rng: { partners: learner.rng.state() },
    cursor: learner.optimiser.cursor(),
    journal: journal as unknown as JsonValue,
    inDoubt: {
      [PROGRESS]: learner.shared.expand(subtract(shared, broadcaster.replica)),
      [RESIDUAL]: learner.shared.expand(broadcaster.saved().residual)
    },
    bytesSent: (before?.bytesSent ?? 0) + bytesSent,
    bytesReceived: (before?.bytesReceived ?? 0) + bytesReceived,
    savedAtMs: clock.now()
  }
  await store.save(state)
  running.saved = { step: state.step, atMs: state.savedAtMs }
  await driver.compact()
}

async function live(running: Running, signal: AbortSignal): Promise<void> {
  const { parts, learner, driver, membership, failure } = running
  const stop = AbortSignal.any([signal, failure.signal])
  driver.start()
  const announcing = membership.run(stop)
  const syncing = keepInSync(running, stop)
  const unwatch = learner.progress.onPhase(() => void membership.announce())
  try {
    await train(running, stop)
    await settle(running, stop)
    await stay(running, stop)
  } finally {
    unwatch()
    await driver.stop()
    await Promise.all([announcing, syncing])
    await save(running)
    await parts.broadcastLog?.close()
  }
  if (failure.signal.aborted) throw failure.signal.reason
}

/** Measured and handed out at once, and again whenever somebody who came later has changed what all agree on. */
async function stay(running: Running, stop: AbortSignal): Promise<void> {
  const { parts, learner, membership, driver } = running
  let concluded: string | undefined
  while (!stop.aborted) {
    const { replicaHash } = driver.stats()
    const agreed = concluded === undefined || membership.members().every(driver.agreesWith)
    if (replicaHash !== concluded && agreed) {
      if (concluded === undefined) await membership.announce()
      concluded = replicaHash
      running.evaluation = await conclude(parts, learner, () => save(running))
    }
    await nap(running, 40 * IDLE_MS, stop)
  }
}

const nap = ({ parts }: Running, ms: number, stop: AbortSignal): Promise<void> =>
  parts.clock.sleep(ms, stop).catch(() => undefined)

/** One conversation now and then with somebody. */
async function keepInSync(running: Running, stop: AbortSignal): Promise<void> {
  const { membership, learner } = running
  while (!stop.aborted) {
    const members = membership.members()
    if (members.length > 0) await talk(running, members[learner.rng.integer(members.length)]!)
    await nap(running, members.length === 0 ? 10 * IDLE_MS : SYNC_INTERVAL_MS, stop)
  }
}

async function talk(running: Running, peer: string): Promise<void> {
  if (!(await running.driver.synchronise(peer))) running.failures++
}

/** Local steps; every `localSteps` of them, and after the last, what was learned is told. */
async function train(running: Running, stop: AbortSignal): Promise<void> {
  const { parts, learner, failure } = running
  const { progress, optimiser, roundsConfig } = learner
  let greeted = false
  while (!stop.aborted && progress.rounds().phase === 'training') {
    const loss = await optimiser.step()
    const step = progress.rounds().step + 1
    if (step % roundsConfig.localSteps === 0 || step >= roundsConfig.totalSteps) {
      if (!greeted) await greet(running, stop)
      greeted = true
      tell(running, step)
    }
    if (step >= roundsConfig.totalSteps) tellTheRest(running, step)
    // Told before the phase changes: who hears of it may ask for our last update at once.
    progress.stepped(loss)
    if (running.published >= parts.config.checkpointEvery) {
      running.published = 0
      save(running).catch((error) => failure.abort(error))
    }
  }
}

/**
 * What updates have left out is told in some more of them, as settling exchanges are made in pairs; then there is nothing
 * of our own any more, and the parameters are the replica, to the last bit.
 */
function tellTheRest(running: Running, step: number): void {
  const { learner, broadcaster, withLive } = running
  for (let n = 0; n < learner.roundsConfig.settleExchanges; n++) tell(running, step)
  withLive(() => broadcaster.onReplica())
}

function tell(running: Running, step: number): void {
  const { parts, learner, driver } = running
  const { progress } = learner
  driver.publish({ samples: parts.dataset.size, totalSamples: totalSamples(running) })
  running.published++
  const rounds = progress.rounds()
  progress.setRounds({ ...rounds, exchanges: rounds.exchanges + 1, lastExchangeStep: step })
}

/** Training examples of everybody heard of lately, ours included. */
function totalSamples({ parts, membership }: Running): number {
  const table = membership.table()
  return present(table, parts.clock.now())
    .filter((peer) => peer !== parts.transport.self)
    .reduce((sum, peer) => sum + (table.records.get(peer)?.announcement.samples ?? 0), parts.dataset.size)
}

/** Waits until those who are there have said who they are, and one of them what it has of us. */
async function greet(running: Running, stop: AbortSignal): Promise<void> {
  const { parts, membership, driver } = running
  const { clock } = parts
  const untilMs = clock.now() + GREETING_MS
  while (!stop.aborted && clock.now() < untilMs) {
    const members = membership.members()
    const heard = membership.table().records
    if (members.length > 0 && members.every((peer) => heard.has(peer))) {
      for (const peer of members) if (driver.heads(peer) === undefined) await talk(running, peer)
      if (members.some((peer) => driver.heads(peer) !== undefined)) return
    }
    await nap(running, 4 * IDLE_MS, stop)
  }
}

/** Until everybody there has stopped training and counted the same as we have; not for ever. */
async function settle(running: Running, stop: AbortSignal): Promise<void> {
  const { parts, learner, membership, driver } = running
  const { progress, roundsConfig } = learner
  const onlyTime = { ...roundsConfig, settleExchanges: Number.POSITIVE_INFINITY }
  while (!stop.aborted && progress.rounds().phase === 'settling') {
    const around = { ...surroundingsOf(membership, parts.clock.now()), waitedMs: progress.waitedMs() }
    const members = membership.members()
    if (members.length > 0 && (!around.othersTraining || around.waitedMs >= SETTLE_PATIENCE_MS)) {
      for (const peer of members) if (!stop.aborted && !driver.agreesWith(peer)) await talk(running, peer)
      if (members.every((peer) => driver.agreesWith(peer))) progress.setRounds({ ...progress.rounds(), phase: 'done' })
    }
    progress.setRounds(waited(progress.rounds(), around, onlyTime))
    if (progress.rounds().phase === 'settling') await nap(running, 20 * IDLE_MS, stop)
  }
}
