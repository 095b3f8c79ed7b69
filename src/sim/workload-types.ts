import type { Rng } from '../base/rng.js'
import type { Scenario } from './scenario.js'

/** One local step of one peer. */
export interface LocalStep {
  readonly learningRate: number
  readonly rng: Rng
}

/** What peers learn, with the answer known beforehand. Functions are given a peer's position, 0 to peers - 1. */
export interface Workload {
  /** The common start x0, float32[size]. */
  readonly reference: Float32Array
  /** Training examples by peer: their weights in the mean and in the loss. */
  readonly weights: readonly number[]
  /** False where peers only mix. */
  readonly trains: boolean
  /** Where a peer begins: writes into float32[size]. */
  begin(peer: number, parameters: Float32Array): void
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
}
