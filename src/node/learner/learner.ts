import { type Rng, restoreRng, seededRng } from '../../base/rng.js'
import type { NodeState } from '../../checkpoint/state.js'
import type { RoundsConfig } from '../../consensus/rounds.js'
import type { Selection } from '../../tensor/selection.js'
import { evaluateDataset } from '../../train/evaluate.js'
import {
  createLocalOptimiser,
  type LocalOptimiser,
  type LocalOptimiserOptions
} from '../../train/optimiser/local-optimiser.js'
import type { ParticipantParts, ParticipantReport } from '../participant/types.js'
import { createProgress, type Progress, restoreRounds } from './progress.js'
import { journalOf } from './recovery.js'
import { sharedPart } from '../config/shared-part.js'
import { trainingTurns } from '../model/training-turns.js'

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

/** As the last checkpoint left it; without one, at the start that all have in common. */
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

/** Measures, saves and hands out what was learned. */
export async function conclude(
  parts: Pick<ParticipantParts, 'config' | 'dataset' | 'trainer' | 'onDone' | 'log'>,
  { parameters, progress }: Learner,
  save: () => Promise<void>
): Promise<NonNullable<ParticipantReport['evaluation']>> {
  const heldOut = parts.dataset.evaluation(parts.config.training.batchSize)
  const result = await evaluateDataset(parts.trainer, parameters, heldOut)
  await save()
  await parts.onDone?.(parameters)
  const evaluation = { ...result, atStep: progress.rounds().step }
  parts.log.info({ ...evaluation }, 'done: from now on only answering others')
  return evaluation
}

/** How far it is, and among how many neighbours, where there is an overlay. */
export function placeOf({ progress, roundsConfig: { totalSteps } }: Learner, degree: number | undefined) {
  const { step } = progress.rounds()
  const share = Math.min(1, step / Math.max(1, totalSteps))
  return { step, progress: share, ...(degree === undefined ? {} : { degree }) }
}

/** Nats on the first batch of our held-out examples, the unshared parameters being ours. */
export async function lossOf(
  { trainer, dataset, config }: Pick<ParticipantParts, 'trainer' | 'dataset' | 'config'>,
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
