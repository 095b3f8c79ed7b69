import { defaultGamma } from '../../src/codec/registry.js'
import type { CodecName } from '../../src/codec/codec.js'
import type { Measurement } from '../../src/sim/verdict/measure.js'
import { type RunResult, runScenario } from '../../src/sim/run.js'
import { readScenario } from '../../src/sim/world/scenario.js'
import type { Training } from '../../src/sim/workload/trained.js'
import { type DatasetEvaluation, evaluateDataset } from '../../src/train/evaluate.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'

/** How peers of an experiment mix; the daemon's defaults where nothing is said. */
export interface MixOptions {
  readonly seed: string
  /** Local steps of each peer, and between two exchanges. */
  readonly steps: number
  readonly localSteps?: number
  readonly codec?: CodecName
  readonly fraction?: number
  readonly gamma?: number
  readonly settleExchanges?: number
  /** Measurements on the way. */
  readonly measurements?: number
  readonly onMeasurement?: (measurement: Measurement) => void
  /** Ends the run early. */
  readonly until?: (measurement: Measurement) => boolean
}

/** Virtual milliseconds of a local step: peers are not equally fast. */
const STEP_MS = [200, 300] as const
/** Time to settle after the slowest has trained. */
const SETTLING_MS = 60_000

/** A simulated federation, everybody reachable by everybody, with links that work: what is left is the mixing. */
export function gossip(training: Training, options: MixOptions): Promise<RunResult> {
  const { seed, steps, localSteps = 10, codec = 'int8', fraction = 0.1, settleExchanges = 12 } = options
  const durationMs = steps * STEP_MS[1] * 1.5 + SETTLING_MS
  const measureMs = Math.ceil((steps * STEP_MS[1]) / (options.measurements ?? 4))
  const scenario = readScenario({
    name: 'experiment',
    seed,
    peers: training.datasets.length,
    durationMs,
    measureMs,
    overlay: { kind: 'complete' },
    mixing: {
      codec,
      fraction,
      gamma: options.gamma ?? defaultGamma(codec, fraction),
      localSteps,
      totalSteps: steps,
      settleExchanges
    },
    peer: { stepMs: STEP_MS },
    workload: { kind: 'trained' },
    training: {}
  })
  const { onMeasurement, until } = options
  return runScenario(scenario, { training, ...(onMeasurement && { onMeasurement }), ...(until && { until }) })
}

/** Some peers by themselves, the same steps from the same start: held-out loss and accuracy of each. */
export function alone(training: Training, steps: number, peers: readonly number[]): Promise<DatasetEvaluation[]> {
  const { trainer, datasets, batchSize } = training
  return Promise.all(
    peers.map(async (peer) => {
      const parameters = trainer.description.initial.slice()
      const optimiser = createLocalOptimiser({
        trainer,
        batches: datasets[peer]!.batches(batchSize),
        parameters,
        options: { ...training.optimiser, schedule: { kind: 'cosine', totalSteps: steps } },
        turns: training.turns
      })
      for (let step = 0; step < steps; step++) await optimiser.step()
      return evaluateDataset(trainer, parameters, datasets[0]!.evaluation(batchSize))
    })
  )
}

/** `count` of `peers`, spread evenly over them. */
export const spreadOver = (peers: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.round((i * (peers - 1)) / Math.max(1, count - 1)))

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
