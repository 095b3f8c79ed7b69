import { randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.js'
import { PeertuneError } from '../base/errors.js'
import type { FederationManifest } from '../base/federation.js'
import type { Logger } from '../base/log.js'
import { restoreRng, seededRng } from '../base/rng.js'
import type { Verdict } from '../base/verdict.js'
import type { CheckpointStore } from '../checkpoint/store.js'
import type { NodeState } from '../checkpoint/state.js'
import { codecByName } from '../codec/registry.js'
import { type JournalDocument, restoreJournal } from '../consensus/journal.js'
import { exchangeMade, initialRounds, type RoundsConfig, type RoundsState, stepTaken } from '../consensus/rounds.js'
import type { Dataset } from '../data/batch.js'
import type { PeerId, Transport } from '../gossip/transport.js'
import { evaluateDataset } from '../train/evaluate.js'
import { createLocalOptimiser } from '../train/local-optimiser.js'
import type { Trainer } from '../train/trainer.js'
import type { NodeConfig } from './config-schema.js'
import { createExchangeDriver } from './exchange-driver.js'
import type { CommittedExchange, ExchangeDriver } from './exchange-types.js'
import { runLoop } from './loop.js'
import { createMembership, knowsOthers, type Membership } from './membership.js'
import { createMixer } from './mixer.js'

/** Weight of the newest loss in the smoothed one: about the last twenty steps count. */
const LOSS_SMOOTHING = 0.1

export interface ParticipantParts {
  readonly config: NodeConfig
  readonly manifest: FederationManifest
  /** Of the manifest. */
  readonly federation: string
  readonly transport: Transport
  readonly trainer: Trainer
  readonly dataset: Dataset
  readonly store: CheckpointStore
  readonly software: string
  readonly clock: Clock
  readonly log: Logger
  /** What was refused and whose it was; `reject` costs the peer something. */
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
  /** Every part of the parameters has been mixed: the adapter is final. */
  readonly onDone?: (parameters: Float32Array) => Promise<void>
}

/** What the status page reads; a live view, numbers only. */
export interface ParticipantView {
  readonly rounds: RoundsState
  readonly loss: { readonly last?: number; readonly smoothed?: number }
  readonly stepsPerSecond: number
  readonly evaluation: { readonly loss: number; readonly accuracy: number; readonly atStep: number } | undefined
  readonly saved: { readonly step: number; readonly atMs: number } | undefined
  readonly bytesBefore: { readonly sent: number; readonly received: number }
  readonly failures: number
  readonly driver: ExchangeDriver
  readonly membership: Membership
  readonly lastGoodRound: number | undefined
  /** Our step at the last exchange with a peer. */
  stalenessSteps(peer: PeerId): number | undefined
  /** Exchanges with a peer since the start. */
  exchangesWith(peer: PeerId): number
}

export interface Participant {
  /** Trains and mixes until the signal aborts, then saves a checkpoint. Rejects when training cannot go on. */
  run(signal: AbortSignal): Promise<void>
  view(): ParticipantView
}

/** A node with its model in place: everything between the trainer and the transport. Restores the last checkpoint. */
export async function createParticipant(parts: ParticipantParts): Promise<Participant> {
  const { config, manifest, federation, transport, trainer, dataset, store, clock, log } = parts
  const { schema, initial } = trainer.description
  const saved = await store.load({ federationHash: federation, schemaHash: schema.hash })
  if (saved) log.info({ step: saved.step, exchanges: saved.exchanges }, 'going on from the last checkpoint')

  const parameters = saved?.parameters.slice() ?? initial.slice()
  const rng =
    saved?.rng.partners === undefined
      ? seededRng(config.training.seed, transport.self, 'partners')
      : restoreRng(saved.rng.partners)
  const optimiser = createLocalOptimiser({
    trainer,
    batches: dataset.batches(config.training.batchSize, saved?.cursor),
    parameters,
    options: optimiserOptions(config),
    ...(saved === undefined ? {} : { state: saved.adam })
  })
  const roundsConfig: RoundsConfig = { ...manifest.mixing, totalSteps: config.training.steps }
  const progress = createProgress(saved, roundsConfig, clock)

  const membership = createMembership({
    transport,
    federation,
    clock,
    log,
    onVerdict: parts.onVerdict,
    news: () => ({
      step: progress.rounds().step,
      phase: progress.rounds().phase,
      samples: dataset.size,
      exchanges: progress.rounds().exchanges,
      ...transport.traffic(),
      ...(progress.loss().smoothed === undefined ? {} : { loss: progress.loss().smoothed as number }),
      ...(config.label === '' ? {} : { label: config.label }),
      software: parts.software
    })
  })
  const exchangesByPeer = new Map<PeerId, number>()
  const onCommitted = ({ peer, partnerPhase }: CommittedExchange) => {
    exchangesByPeer.set(peer, (exchangesByPeer.get(peer) ?? 0) + 1)
    mixer.noteCommitted(peer)
    membership.noteExchange(peer, partnerPhase)
    progress.exchanged(partnerPhase)
  }
  const driver = createExchangeDriver(
    {
      transport,
      clock,
      logger: log,
      holder: { parameters: () => parameters, add: (increment) => addInto(parameters, increment) },
      phase: () => progress.rounds().phase,
      onCommitted,
      onVerdict: parts.onVerdict
    },
    {
      config: {
        self: transport.self,
        federation,
        schema: { hash: schema.hash, size: schema.size },
        reference: initial,
        codec: codecByName(manifest.mixing.codec),
        gamma: manifest.mixing.gamma,
        weight: dataset.size,
        incarnation: randomUUID()
      },
      ...(saved === undefined ? {} : { journal: journalOf(saved, schema.size) })
    }
  )
  const mixer = createMixer({
    driver,
    candidates: membership.candidates,
    phase: () => progress.rounds().phase,
    clock,
    rng
  })

  let savedAt = saved === undefined ? undefined : { step: saved.step, atMs: saved.savedAtMs }
  let savedExchanges = saved?.exchanges ?? 0
  let evaluation: ParticipantView['evaluation']

  const state = (): NodeState => {
    const { json, tensors } = driver.journal()
    const { step, exchanges, phase, lastExchangeStep, settled } = progress.rounds()
    const traffic = transport.traffic()
    return {
      federationHash: federation,
      schemaHash: schema.hash,
      step,
      exchanges,
      phase,
      parameters,
      adam: optimiser.state(),
      rng: { partners: rng.state() },
      cursor: optimiser.cursor(),
      journal: { ...json, lastExchangeStep, settled } as unknown as NodeState['journal'],
      inDoubt: tensors,
      bytesSent: (saved?.bytesSent ?? 0) + traffic.bytesSent,
      bytesReceived: (saved?.bytesReceived ?? 0) + traffic.bytesReceived,
      savedAtMs: clock.now()
    }
  }
  const save = async (): Promise<void> => {
    const snapshot = state()
    savedExchanges = snapshot.exchanges
    await store.save(snapshot)
    savedAt = { step: snapshot.step, atMs: snapshot.savedAtMs }
  }

  const finish = async (): Promise<void> => {
    await membership.announce()
    const result = await evaluateDataset(trainer, parameters, dataset.evaluation(config.training.batchSize))
    if (result.count > 0) evaluation = { loss: result.loss, accuracy: result.accuracy, atStep: progress.rounds().step }
    await save()
    await parts.onDone?.(parameters)
    log.info({ step: progress.rounds().step, loss: result.loss, accuracy: result.accuracy }, 'done: answering others')
  }

  async function run(signal: AbortSignal): Promise<void> {
    const failure = new AbortController()
    const stop = AbortSignal.any([signal, failure.signal])
    const fail = (error: unknown) => failure.abort(error)
    driver.start()
    const announcing = membership.run(stop)
    const phaseWatch = progress.onPhase(() => void membership.announce())
    try {
      await runLoop(
        {
          config: roundsConfig,
          rounds: { get: progress.rounds, set: progress.setRounds },
          localStep: async () => progress.stepped(await optimiser.step()),
          mix: () => mixer.attempt().catch(fail),
          knowsOthers: () => knowsOthers(membership, clock.now()),
          waitedMs: progress.waitedMs,
          maybeSave: () => {
            if (progress.rounds().exchanges - savedExchanges >= config.checkpointEvery) save().catch(fail)
          },
          onDone: finish,
          clock
        },
        stop
      )
    } catch (error) {
      // A trainer that is closed because the node leaves is no failure.
      if (!signal.aborted) throw error
    } finally {
      phaseWatch()
      await driver.stop()
      await announcing
      await save()
    }
    if (failure.signal.aborted) throw failure.signal.reason
  }

  return {
    run,
    view: () => ({
      rounds: progress.rounds(),
      loss: progress.loss(),
      stepsPerSecond: progress.stepsPerSecond(),
      evaluation,
      saved: savedAt,
      bytesBefore: { sent: saved?.bytesSent ?? 0, received: saved?.bytesReceived ?? 0 },
      failures: mixer.failures(),
      driver,
      membership,
      lastGoodRound: progress.rounds().exchanges > 0 ? progress.rounds().lastExchangeStep : undefined,
      exchangesWith: (peer) => exchangesByPeer.get(peer) ?? 0,
      stalenessSteps: (peer) => {
        const at = membership.table().exchanged.get(peer)?.atStep
        return at === undefined ? undefined : progress.rounds().step - at
      }
    })
  }
}

function optimiserOptions({ training }: NodeConfig) {
  const { learningRate, weightDecay, beta1, beta2, epsilon, warmupSteps, schedule, steps } = training
  return {
    learningRate,
    weightDecay,
    beta1,
    beta2,
    epsilon,
    schedule:
      schedule === 'constant'
        ? { kind: 'constant' as const, warmupSteps }
        : { kind: 'cosine' as const, warmupSteps, totalSteps: steps }
  }
}

function addInto(parameters: Float32Array, increment: Float32Array): void {
  for (let i = 0; i < parameters.length; i++) parameters[i]! += increment[i]!
}

/** The journal's own JSON, and beside it the two counters of `RoundsState` that a checkpoint has no field for. */
type SavedJournal = JournalDocument['json'] & Pick<RoundsState, 'lastExchangeStep' | 'settled'>

const journalOf = (saved: NodeState, size: number) =>
  restoreJournal({ json: saved.journal as unknown as SavedJournal, tensors: saved.inDoubt }, size)

function restoredRounds(saved: NodeState, config: RoundsConfig): RoundsState {
  const { lastExchangeStep, settled } = saved.journal as unknown as SavedJournal
  const { step, exchanges, phase } = saved
  if (phase !== 'training' && phase !== 'settling' && phase !== 'done')
    throw new PeertuneError('checkpoint/corrupt', 'the checkpoint names a phase that there is not', {
      facts: { phase }
    })
  // More steps in the configuration than before: there is more to learn.
  const resumed = step < config.totalSteps ? 'training' : phase
  return { phase: resumed, step, exchanges, lastExchangeStep, settled: resumed === 'training' ? 0 : settled }
}

/** Steps, exchanges and losses as they happen; the only place where `RoundsState` moves on. */
function createProgress(saved: NodeState | undefined, config: RoundsConfig, clock: Clock) {
  let rounds = saved === undefined ? initialRounds : restoredRounds(saved, config)
  let last: number | undefined
  let smoothed: number | undefined
  let waitingSince = clock.now()
  let firstStep: { readonly atMs: number; readonly step: number } | undefined
  let lastStepAtMs = 0
  let listener: (() => void) | undefined

  const setRounds = (next: RoundsState): void => {
    const changed = next.phase !== rounds.phase
    if (changed || next.settled !== rounds.settled) waitingSince = clock.now()
    rounds = next
    if (changed) listener?.()
  }
  return {
    rounds: () => rounds,
    setRounds,
    onPhase(call: () => void) {
      listener = call
      return () => {
        listener = undefined
      }
    },
    stepped(loss: number) {
      last = loss
      smoothed = smoothed === undefined ? loss : smoothed + LOSS_SMOOTHING * (loss - smoothed)
      setRounds(stepTaken(rounds, config))
      lastStepAtMs = clock.now()
      firstStep ??= { atMs: lastStepAtMs, step: rounds.step }
    },
    exchanged: (partnerPhase: RoundsState['phase']) => setRounds(exchangeMade(rounds, partnerPhase, config)),
    loss: () => ({ ...(last === undefined ? {} : { last }), ...(smoothed === undefined ? {} : { smoothed }) }),
    waitedMs: () => clock.now() - waitingSince,
    stepsPerSecond: () => {
      const elapsedMs = firstStep === undefined ? 0 : lastStepAtMs - firstStep.atMs
      return firstStep === undefined || elapsedMs === 0 ? 0 : ((rounds.step - firstStep.step) * 1000) / elapsedMs
    }
  }
}
