import { randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.js'
import type { FederationManifest } from '../base/federation.js'
import type { JsonValue } from '../base/json.js'
import type { Logger } from '../base/log.js'
import { type Rng, restoreRng, seededRng } from '../base/rng.js'
import type { Verdict } from '../base/verdict.js'
import type { ExchangeLog } from '../checkpoint/exchange-log.js'
import type { NodeState } from '../checkpoint/state.js'
import type { CheckpointStore } from '../checkpoint/store.js'
import type { ExchangeConfig } from '../consensus/exchange-types.js'
import type { Journal } from '../consensus/journal.js'
import type { RoundsConfig, RoundsState } from '../consensus/rounds.js'
import type { Dataset } from '../data/batch.js'
import type { PeerId, Transport } from '../gossip/transport.js'
import { type DatasetEvaluation, evaluateDataset } from '../train/evaluate.js'
import { createLocalOptimiser, type LocalOptimiser, type LocalOptimiserOptions } from '../train/local-optimiser.js'
import type { Selection } from '../tensor/selection.js'
import type { Trainer } from '../train/trainer.js'
import type { BroadcastStats } from './broadcast-view.js'
import { type CatchUp, type CatchUpReport, createCatchUp } from './catch-up.js'
import type { NodeConfig } from './config-schema.js'
import { mixingConfig, type SharedStart } from './exchange-config.js'
import { createExchangeDriver } from './exchange-driver.js'
import { type ExchangeTasks, type ExchangeTasksInit, MIN_OFFLOADED_PARAMETERS } from './exchange-tasks.js'
import type { ExchangeDriver } from './exchange-types.js'
import { runLoop } from './loop.js'
import { createMembership, type Membership, surroundingsOf } from './membership.js'
import { trainingTurns } from './training-turns.js'
import { type AttemptOptions, createMixer, type Mixer } from './mixer.js'
import { createOverlayView } from './overlay-view.js'
import { createProgress, type LossView, type Progress, restoreRounds } from './progress.js'
import { journalOf, mapValues, recover, type SavedJournal, watchedLog } from './recovery.js'
import { sharedPart } from './shared-part.js'
import { createStateReader, type StateReader } from './state-reader.js'

export interface ParticipantParts {
  readonly config: Pick<NodeConfig, 'training' | 'label' | 'checkpointEvery'>
  readonly manifest: FederationManifest
  /** Hash of the manifest. */
  readonly federation: string
  readonly transport: Transport
  readonly trainer: Trainer
  readonly dataset: Dataset
  readonly store: CheckpointStore
  /** Without it, a crash loses what was exchanged since the last checkpoint. */
  readonly exchangeLog?: ExchangeLog
  /** Takes the arithmetic of exchanges off the event loop, where there are parameters enough. */
  readonly exchangeTasks?: (init: ExchangeTasksInit) => ExchangeTasks
  /** Name and version of the software, for other peers to see. */
  readonly software: string
  readonly clock: Clock
  readonly log: Logger
  /** Something a peer sent was refused; `reject` costs it something. */
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
  /** Settled: these parameters are what this peer has learned. */
  readonly onDone?: (parameters: Float32Array) => Promise<void>
}

/** What the status is made of; a live view. */
export interface ParticipantView {
  readonly rounds: RoundsState
  readonly loss: LossView
  readonly stepsPerSecond: number
  readonly evaluation: (DatasetEvaluation & { readonly atStep: number }) | undefined
  readonly saved: { readonly step: number; readonly atMs: number } | undefined
  /** Payload bytes of earlier lives. */
  readonly bytesBefore: { readonly sent: number; readonly received: number }
  /** Attempts to mix that failed since the start, by code. */
  readonly failures: Readonly<Record<string, number>>
  /** Absent where peers broadcast. */
  readonly driver?: ExchangeDriver
  /** Where peers broadcast. */
  readonly broadcast?: BroadcastStats
  readonly membership: Membership
  /** The last look at several peers' states; absent where none was needed. */
  readonly caughtUp: CatchUpReport | undefined
  /** States given to others since the start. */
  readonly statesGiven: number
  /** On the federation's overlay; undefined where partners are drawn at random. */
  readonly neighbours: readonly PeerId[] | undefined
  /** Exchanges with a peer since the start. */
  exchangesWith(peer: PeerId): number
}

export interface Participant {
  /** Trains and mixes until the signal aborts, then saves a checkpoint. Rejects when training cannot go on. */
  run(signal: AbortSignal): Promise<void>
  view(): ParticipantView
}

/** What this peer has learned so far, and its means to learn more. */
export interface Learner {
  /** float32[schema.size], live: steps and exchanges change it in place. */
  readonly parameters: Float32Array
  readonly optimiser: LocalOptimiser
  readonly progress: Progress
  readonly roundsConfig: RoundsConfig
  /** What is exchanged of the parameters. */
  readonly shared: Selection
  /** Chooses partners. */
  readonly rng: Rng
}

/** The others. */
interface Neighbourhood {
  readonly membership: Membership
  readonly driver: ExchangeDriver
  readonly mixer: Mixer
  readonly reader: StateReader
  readonly catchUp: CatchUp
  readonly neighbours: (() => readonly PeerId[]) | undefined
  readonly exchangesByPeer: ReadonlyMap<PeerId, number>
  /** Rejects when the exchange log cannot be written any more. */
  readonly logBroken: Promise<never>
}

/** A node with its model in place: all between the trainer and the transport, as the last checkpoint left it. */
export async function createParticipant(parts: ParticipantParts): Promise<Participant> {
  const { trainer, federation, store, log } = parts
  const saved = await store.load({ federationHash: federation, schemaHash: trainer.description.schema.hash })
  if (saved) log.info({ step: saved.step, exchanges: saved.exchanges }, 'going on from the last checkpoint')
  const learner = createLearner(parts, saved)
  const [journal, made] = await recover({ saved, shared: learner.shared, exchangeLog: parts.exchangeLog })
  for (const { increment, partnerPhase } of made) {
    learner.shared.addInto(increment, learner.parameters)
    learner.progress.exchanged(partnerPhase)
  }
  if (made.length > 0) log.info({ exchanges: made.length }, 'recovered exchanges that were in the log only')
  const others = createNeighbourhood(parts, learner, journal, saved?.savedAtMs)
  const keeper = createKeeper(parts, learner, others, saved)
  let evaluation: ParticipantView['evaluation']

  const finish = async (): Promise<void> => {
    await others.membership.announce()
    evaluation = await conclude(parts, learner, keeper.save)
  }
  return {
    run: (signal) => live(parts, learner, others, keeper, finish, signal),
    view: () => ({
      rounds: learner.progress.rounds(),
      loss: learner.progress.loss(),
      stepsPerSecond: learner.progress.stepsPerSecond(),
      evaluation,
      saved: keeper.saved(),
      bytesBefore: { sent: saved?.bytesSent ?? 0, received: saved?.bytesReceived ?? 0 },
      failures: others.mixer.failures(),
      driver: others.driver,
      membership: others.membership,
      caughtUp: others.catchUp.last(),
      statesGiven: others.reader.given(),
      neighbours: others.neighbours?.(),
      exchangesWith: (peer) => others.exchangesByPeer.get(peer) ?? 0
    })
  }
}

/** Measures, saves and hands out what was learned. */
export async function conclude(
  parts: Pick<ParticipantParts, 'config' | 'dataset' | 'trainer' | 'onDone' | 'log'>,
  { parameters, progress }: Learner,
  save: () => Promise<void>
): Promise<NonNullable<ParticipantView['evaluation']>> {
  const heldOut = parts.dataset.evaluation(parts.config.training.batchSize)
  const result = await evaluateDataset(parts.trainer, parameters, heldOut)
  await save()
  await parts.onDone?.(parameters)
  const evaluation = { ...result, atStep: progress.rounds().step }
  parts.log.info({ ...evaluation }, 'done: from now on only answering others')
  return evaluation
}

export function createLearner(parts: ParticipantParts, saved: NodeState | undefined): Learner {
  const { config, manifest, trainer, dataset, transport, clock } = parts
  const { seed, batchSize, steps } = config.training
  const parameters = (saved?.parameters ?? trainer.description.initial).slice()
  const roundsConfig = { ...manifest.mixing, totalSteps: steps }
  const rounds = restoreRounds(saved, journalOf(saved), roundsConfig)
  return {
    parameters,
    optimiser: createLocalOptimiser({
      trainer,
      batches: dataset.batches(batchSize, saved?.cursor),
      parameters,
      options: optimiserOptions(config),
      turns: trainingTurns(manifest.peft, trainer.description.schema, manifest.mixing.localSteps),
      quasiGlobal: manifest.mixing.momentum?.kind === 'quasi-global' ? manifest.mixing.momentum : undefined,
      ...(saved === undefined ? {} : { state: saved.adam })
    }),
    progress: createProgress(rounds, roundsConfig, clock),
    roundsConfig,
    shared: sharedPart(manifest, trainer.description.schema),
    rng: saved?.rng.partners ? restoreRng(saved.rng.partners) : seededRng(seed, transport.self, 'partners')
  }
}

function optimiserOptions({ training }: ParticipantParts['config']): LocalOptimiserOptions {
  const { learningRate, weightDecay, beta1, beta2, epsilon, warmupSteps, schedule, steps: totalSteps } = training
  const adamw = { learningRate, weightDecay, beta1, beta2, epsilon }
  if (schedule === 'constant') return { ...adamw, schedule: { kind: 'constant', warmupSteps } }
  return { ...adamw, schedule: { kind: 'cosine', warmupSteps, totalSteps } }
}

function createNeighbourhood(
  parts: ParticipantParts,
  learner: Learner,
  journal: Journal,
  savedAtMs: number | undefined
): Neighbourhood {
  const { transport, federation, clock, log, onVerdict } = parts
  const { progress, parameters, rng, shared } = learner
  const phase = () => progress.rounds().phase
  const exchangesByPeer = new Map<PeerId, number>()
  const news = () => newsOf(parts, progress)
  const logBroken = Promise.withResolvers<never>()
  // Heard by whoever runs; before that, nobody needs it.
  logBroken.promise.catch(() => undefined)
  const membership = createMembership({ transport, federation, clock, log, onVerdict, news })
  const holder = {
    parameters: () => shared.take(parameters),
    add: (increment: Float32Array) => shared.addInto(increment, parameters)
  }
  const config = exchangeConfig(parts, shared)
  const offload = shared.schema.size >= MIN_OFFLOADED_PARAMETERS ? parts.exchangeTasks : undefined
  const { overlay } = parts.manifest.mixing
  const neighbours = createOverlayView({ spec: overlay, seed: federation, self: transport.self, membership, clock })
  const driver = createExchangeDriver(
    {
      transport,
      clock,
      logger: log,
      holder,
      phase,
      ...(offload && {
        tasks: offload({ config: plainConfig(config), manifest: parts.manifest, schema: shared.schema })
      }),
      place: () => placeOf(progress, learner.roundsConfig, neighbours?.().length),
      lossOf: (vector) => lossOf(parts, learner, vector),
      ...(parts.exchangeLog && { exchangeLog: watchedLog(parts.exchangeLog, logBroken.reject) }),
      onVerdict,
      onCommitted: ({ peer, partnerPhase }) => {
        exchangesByPeer.set(peer, (exchangesByPeer.get(peer) ?? 0) + 1)
        learner.optimiser.mixed()
        mixer.noteCommitted(peer)
        membership.noteExchange(peer, partnerPhase)
        progress.exchanged(partnerPhase)
      }
    },
    { config, journal }
  )
  const mixer = createMixer({
    driver,
    candidates: membership.candidates,
    ...(neighbours && { neighbours }),
    present: membership.members,
    phase,
    clock,
    rng
  })
  const moment = () => progress.rounds()
  const reader = createStateReader({ transport, clock, config, parameters: holder.parameters, moment, onVerdict })
  const catchUp = createCatchUp({
    config,
    reader,
    membership,
    driver,
    holder,
    rounds: progress.rounds,
    ...(savedAtMs === undefined ? {} : { savedAtMs }),
    clock,
    rng,
    log
  })
  return { membership, driver, mixer, reader, catchUp, neighbours, exchangesByPeer, logBroken: logBroken.promise }
}

function placeOf(progress: Progress, { totalSteps }: RoundsConfig, degree: number | undefined) {
  const { step } = progress.rounds()
  const share = Math.min(1, step / Math.max(1, totalSteps))
  return { step, progress: share, ...(degree === undefined ? {} : { degree }) }
}

/** Nats on the first batch of our held-out examples, the unshared parameters being ours. */
async function lossOf(
  { trainer, dataset, config }: ParticipantParts,
  { parameters, shared }: Learner,
  vector: Float32Array
): Promise<number> {
  const whole = parameters.slice()
  const own = shared.take(whole)
  shared.addInto(
    vector.map((value, i) => value - own[i]!),
    whole
  )
  for (const batch of dataset.evaluation(config.training.batchSize)) {
    const { lossSum, count } = await trainer.evaluate(whole, batch)
    return lossSum / count
  }
  return Number.NaN
}

/** What is plain data of it. */
const plainConfig = ({ self, federation, weight, incarnation, reference }: ExchangeConfig) => ({
  self,
  federation,
  weight,
  incarnation,
  reference
})

const exchangeConfig = (
  { transport, federation, manifest, trainer, dataset }: ParticipantParts,
  shared: Selection
): ExchangeConfig => ({
  self: transport.self,
  federation,
  ...sharedStart(trainer, shared),
  ...mixingConfig(manifest, sharedStart(trainer, shared)),
  weight: dataset.size,
  incarnation: randomUUID()
})

const sharedStart = ({ description }: Trainer, { schema, take }: Selection): SharedStart => ({
  schema,
  reference: take(description.initial)
})

export function newsOf({ transport, config, dataset, software }: ParticipantParts, progress: Progress) {
  const { step, phase, exchanges } = progress.rounds()
  const { smoothed } = progress.loss()
  return {
    step,
    phase,
    exchanges,
    samples: dataset.size,
    software,
    ...transport.traffic(),
    ...(smoothed === undefined ? {} : { loss: smoothed }),
    ...(config.label === '' ? {} : { label: config.label })
  }
}

/** Writes checkpoints; what it knows of the last one is for the status. */
interface Keeper {
  save(): Promise<void>
  /** Saves when enough exchanges have been made since the last time. Called between two steps only. */
  isDue(): boolean
  saved(): ParticipantView['saved']
}

function createKeeper(
  parts: ParticipantParts,
  learner: Learner,
  others: Neighbourhood,
  before: NodeState | undefined
): Keeper {
  let saved: ParticipantView['saved'] = before && { step: before.step, atMs: before.savedAtMs }
  let exchanges = before?.exchanges ?? 0
  /** What the checkpoint before the last contains of the log; should the last be damaged, the rest is needed. */
  let loggedBefore = journalOf(before).logged ?? 0
  return {
    async save() {
      const state = captureState(parts, learner, others, before)
      exchanges = state.exchanges
      await parts.store.save(state)
      await parts.exchangeLog?.trim(loggedBefore)
      loggedBefore = journalOf(state).logged ?? 0
      saved = { step: state.step, atMs: state.savedAtMs }
    },
    isDue: () => learner.progress.rounds().exchanges - exchanges >= parts.config.checkpointEvery,
    saved: () => saved
  }
}

/** All of one tick: parameters, journal and counters belong together. */
function captureState(
  { federation, trainer, transport, clock, exchangeLog }: ParticipantParts,
  { parameters, optimiser, progress, rng, shared }: Learner,
  { driver }: Neighbourhood,
  before: NodeState | undefined
): NodeState {
  const { json, tensors } = driver.journal()
  const { step, exchanges, phase, lastExchangeStep, settled } = progress.rounds()
  const { bytesSent, bytesReceived } = transport.traffic()
  const journal: SavedJournal = { ...json, lastExchangeStep, settled, logged: exchangeLog?.sequence() ?? 0 }
  return {
    federationHash: federation,
    schemaHash: trainer.description.schema.hash,
    step,
    exchanges,
    phase,
    parameters,
    adam: optimiser.state(),
    rng: { partners: rng.state() },
    cursor: optimiser.cursor(),
    journal: journal as unknown as JsonValue,
    inDoubt: mapValues(tensors, shared.expand),
    bytesSent: (before?.bytesSent ?? 0) + bytesSent,
    bytesReceived: (before?.bytesReceived ?? 0) + bytesReceived,
    savedAtMs: clock.now()
  }
}

async function live(
  parts: ParticipantParts,
  learner: Learner,
  { membership, driver, mixer, reader, catchUp, logBroken }: Neighbourhood,
  keeper: Keeper,
  onDone: () => Promise<void>,
  signal: AbortSignal
): Promise<void> {
  const { progress, optimiser, roundsConfig: config } = learner
  const failure = new AbortController()
  const fail = (error: unknown) => failure.abort(error)
  const stop = AbortSignal.any([signal, failure.signal])
  logBroken.catch(fail)
  driver.start()
  reader.start()
  const announcing = membership.run(stop)
  const unwatch = progress.onPhase(() => void membership.announce())
  let unsaved = false
  const mixOrCatchUp = async (options: AttemptOptions): Promise<unknown> => {
    const reason = options.doubtsOnly || driver.busy() ? undefined : catchUp.due()
    if (reason === undefined) return mixer.attempt(options)
    // What it did is in no exchange log: without a checkpoint a crash would lose it.
    if ((await catchUp.run(reason)) === 'moved') unsaved = true
    return undefined
  }
  const loop = {
    config,
    onDone,
    clock: parts.clock,
    rounds: { get: progress.rounds, set: progress.setRounds },
    localStep: async () => progress.stepped(await optimiser.step()),
    mix: (options: AttemptOptions) => mixOrCatchUp(options).catch(fail),
    surroundings: () => ({
      ...surroundingsOf(membership, parts.clock.now()),
      waitedMs: progress.waitedMs(),
      inDoubt: driver.inDoubt().length > 0
    }),
    maybeSave: () => {
      if (!unsaved && !keeper.isDue()) return
      unsaved = false
      keeper.save().catch(fail)
    }
  }
  try {
    // A step that cannot be made ends the announcements, too: they are waited for below.
    await runLoop(loop, stop).catch(fail)
  } finally {
    unwatch()
    await driver.stop()
    await announcing
    const { step, exchanges } = progress.rounds()
    // A model that failed in its first step has left nothing to go on from.
    if (!failure.signal.aborted || step + exchanges > 0) await keeper.save()
    await parts.exchangeLog?.close()
  }
  if (failure.signal.aborted) throw failure.signal.reason
}
