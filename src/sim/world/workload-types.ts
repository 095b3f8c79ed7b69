import type { BatchCursor } from '../../data/batches/batch.js'
import type { Rng } from '../../base/rng.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import type { AdamWState } from '../../train/optimiser/adamw.js'
import type { DatasetEvaluation } from '../../train/evaluate.js'
import type { Scenario } from './scenario.js'

/** One local step of one peer. */
export interface LocalStep {
  readonly learningRate: number
  readonly rng: Rng
}

/** What peers learn or agree on. Functions are given a peer's position, 0 to peers - 1. */
export interface Workload {
  /** The common start x0, float32[size]. */
  readonly reference: Float32Array
  /** Names and shapes, where parameters have some: what codecs made for adapters need. */
  readonly schema?: ParameterSchema
  /** Training examples by peer: their weights in the mean and in the loss. */
  readonly weights: readonly number[]
  /** False where peers only mix. */
  readonly trains: boolean
  /** Where a peer begins: writes into float32[size]. */
  begin(peer: number, parameters: Float32Array): void
  /** A peer's own training of `parameters`, from one start to the next crash; `saved`: what its last checkpoint kept. */
  learner(peer: number, parameters: Float32Array, saved: LearnerState | undefined): Learner
  /** What the honest peers have learned, apart and merged. `last`: at the end of the run. */
  measure(held: Held, last: boolean): Learned | Promise<Learned>
}

/** What is to be measured: live vectors, read only. */
export interface Held {
  /** Weighted mean of the parameters, float64[size]. */
  readonly mean: Float64Array
  readonly peers: readonly Float32Array[]
}

export interface Learned {
  /** Global loss at the mean above the minimum; above 0 where nobody knows the minimum. */
  readonly excessLoss: number
  /** Of the mean as a model, on held-out examples; only where models are trained. */
  readonly merged?: DatasetEvaluation
  /** The same of every honest peer by itself, at the end. */
  readonly peers?: readonly DatasetEvaluation[]
}

export interface Learner {
  /** A local step begins, at the parameters as they are now. The second half, called once or never, moves them as they are then. */
  begin(): (step: LocalStep) => void | Promise<void>
  /** What a checkpoint keeps besides the parameters, a copy; absent where there is nothing. */
  state(): LearnerState | undefined
}

export interface LearnerState {
  readonly optimiser: AdamWState
  readonly cursor: BatchCursor
}

/** A workload with the answer known beforehand. */
export interface KnownProblem extends Pick<Workload, 'reference' | 'weights' | 'trains' | 'begin'> {
  /** A gradient step, in place. */
  step(peer: number, parameters: Float32Array, step: LocalStep): void
  /** The weighted mean of all peers' losses at `parameters`. */
  loss(parameters: ArrayLike<number>): number
  /** The minimum of `loss`, and where it is. */
  readonly bestLoss: number
  readonly optimum: Float64Array
}

export interface WorkloadParts {
  readonly scenario: Scenario
  readonly weights: readonly number[]
  readonly reference: Float32Array
  readonly rng: Rng
  /** Whether a peer's labels are wrong: what it learns is then no part of the loss, which is of its true ones. */
  readonly mislabelled: (peer: number) => boolean
}
