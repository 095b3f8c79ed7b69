import { PeertuneError } from '../../base/errors.js'
import { type Batch, type Dataset, IGNORED_LABEL } from '../../data/batches/batch.js'
import type { AdamWOptions, AdamWState } from '../../train/optimiser/adamw.js'
import { type DatasetEvaluation, evaluateDataset } from '../../train/evaluate.js'
import { createLocalOptimiser, type LocalOptimiserParts } from '../../train/optimiser/local-optimiser.js'
import type { Schedule } from '../../train/optimiser/schedule.js'
import type { Trainer } from '../../train/trainer.js'
import { attackOf } from '../attack/attackers.js'
import type { Scenario } from '../world/scenario.js'
import type { Learner, LearnerState, Workload } from '../world/workload-types.js'

/** What a simulated federation trains. Whoever opens it closes it; one trainer serves all peers, since it keeps nothing. */
export interface Training {
  readonly trainer: Pick<Trainer, 'description' | 'step' | 'evaluate'>
  /** By peer. Held-out examples are the first one's. */
  readonly datasets: readonly Dataset[]
  readonly batchSize: number
  /** AdamW with its peak learning rate; it falls to 0 along a cosine over the scenario's `totalSteps`, or stays without them. */
  readonly optimiser: AdamWOptions
  /** What each local step updates, as `LocalOptimiserParts.turns`; everything without it. */
  readonly turns?: LocalOptimiserParts['turns']
}

/**
 * Real training of a real model. A gradient is begun when a local step begins and waited for when it ends, in virtual
 * time: the trainer is a function of parameters and batch, so how long it really takes changes nothing.
 */
export function trainedWorkload(scenario: Scenario, honest: Training): Workload {
  const { peers, mixing } = scenario
  const { trainer, datasets, batchSize } = honest
  const { initial, schema } = trainer.description
  if (datasets.length !== peers)
    throw new PeertuneError('config/bad-scenario', `${datasets.length} data sources for ${peers} peers`)
  const training = { ...honest, datasets: datasets.map((one, peer) => taught(scenario, peer, one)) }
  const { totalSteps } = mixing
  const schedule: Schedule = totalSteps === 0 ? { kind: 'constant' } : { kind: 'cosine', totalSteps }
  const evaluate = (parameters: Float32Array) =>
    evaluateDataset(trainer, parameters, datasets[0]!.evaluation(batchSize))
  let seen: { readonly mean: Float64Array; readonly merged: DatasetEvaluation } | undefined
  return {
    reference: initial,
    schema,
    weights: datasets.map(({ size }) => size),
    trains: true,
    begin: (_, parameters) => parameters.set(initial),
    learner: (peer, parameters, saved) => createLearner({ peer, parameters, saved, training, schedule }),
    async measure({ mean, peers: held }, last) {
      // Once peers are done their mean stays where it is.
      if (seen === undefined || mean.some((value, i) => value !== seen!.mean[i]))
        seen = { mean, merged: await evaluate(Float32Array.from(mean)) }
      const { merged } = seen
      if (!last) return { excessLoss: merged.loss, merged }
      return { excessLoss: merged.loss, merged, peers: await Promise.all(held.map(evaluate)) }
    }
  }
}

/** A peer's data as it learns from it: of a liar that flips labels, with every label its mirror image. */
function taught(scenario: Scenario, peer: number, dataset: Dataset): Dataset {
  if (attackOf(scenario, peer) !== 'label-flip') return dataset
  const classes = dataset.summary?.labels?.length ?? 0
  if (classes < 2)
    throw new PeertuneError('config/bad-scenario', 'attackers: label-flip needs examples of several classes', {
      facts: { path: 'attackers', classes }
    })
  return {
    ...dataset,
    batches(batchSize, cursor) {
      const stream = dataset.batches(batchSize, cursor)
      return { ...stream, next: () => mirrored(stream.next(), classes) }
    }
  }
}

const mirrored = ({ inputs, labels }: Batch, classes: number): Batch => ({
  inputs,
  labels: {
    ...labels,
    data: labels.data.map((label) => (label === IGNORED_LABEL ? label : classes - 1 - label))
  }
})

interface LearnerParts {
  readonly peer: number
  readonly parameters: Float32Array
  readonly saved: LearnerState | undefined
  readonly training: Training
  readonly schedule: Schedule
}

function createLearner({ peer, parameters, saved, training, schedule }: LearnerParts): Learner {
  const { trainer, datasets, batchSize, optimiser: options, turns } = training
  const optimiser = createLocalOptimiser({
    trainer,
    batches: datasets[peer]!.batches(batchSize, saved?.cursor),
    parameters,
    options: { ...options, schedule },
    turns,
    ...(saved && { state: copyOf(saved.optimiser) })
  })
  return {
    begin() {
      const end = optimiser.begin()
      return async () => void (await end())
    },
    state: () => ({ optimiser: copyOf(optimiser.state()), cursor: optimiser.cursor() })
  }
}

const copyOf = ({ m, v, step }: AdamWState): AdamWState => ({ m: m.slice(), v: v.slice(), step })
