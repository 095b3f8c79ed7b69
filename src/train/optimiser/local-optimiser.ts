import type { BatchCursor, BatchStream } from '../../data/batches/batch.js'
import { type AdamWOptions, type AdamWState, adamw, createAdamW } from './adamw.js'
import { beginQuasiGlobal, mixQuasiGlobal, type QuasiGlobalOptions } from './quasi-global.js'
import { type Schedule, scheduleFactor } from './schedule.js'
import type { Trainer } from '../trainer.js'

/** AdamW with its peak learning rate, and how that moves over the local steps. */
export interface LocalOptimiserOptions extends AdamWOptions {
  readonly schedule: Schedule
}

/** Elements of the parameters that one step updates. */
export interface Turn {
  readonly from: number
  /** Behind the last. */
  readonly to: number
  /** Steps that have updated them before, which is what the bias of their moments is corrected by. */
  readonly updates: number
}

export interface LocalOptimiserParts {
  readonly trainer: Pick<Trainer, 'step'>
  readonly batches: BatchStream
  /** Updated in place; others may add to it between and during steps (asynchronous mixing). */
  readonly parameters: Float32Array
  readonly options: LocalOptimiserOptions
  /** Continues from a checkpoint; absent: a fresh state. */
  readonly state?: AdamWState
  /** What step `step`, counted from 0, updates; all else keeps its values and moments. Absent: everything. */
  readonly turns?: ((step: number) => readonly Turn[]) | undefined
  /** Momentum from the way of the mixed parameters. Absent: from local gradients alone. */
  readonly quasiGlobal?: QuasiGlobalOptions | undefined
}

export interface LocalOptimiser {
  /** One batch, one gradient, one update. Returns the loss in nats before the update. */
  step(): Promise<number>
  /**
   * The first half of a step: the gradient is under way. The second half, to be called once or never, waits for it and
   * updates. For whoever keeps the time between the two.
   */
  begin(): () => Promise<number>
  /** The parameters have just been mixed, outside of a step. */
  mixed(): void
  /** Updates made so far; the state is this optimiser's own and moves on with the next step. */
  state(): AdamWState
  cursor(): BatchCursor
}

/**
 * A peer's own training: gradients of the parameters as they were when the step began, applied to the parameters as
 * they are when it ends (AD-PSGD, Lian et al. 2018, algorithm 1), so that an exchange need not wait for a step.
 */
export function createLocalOptimiser(parts: LocalOptimiserParts): LocalOptimiser {
  const { trainer, batches, parameters, options, turns, quasiGlobal } = parts
  const { schedule, ...peak } = options
  let state = parts.state ?? createAdamW(parameters.length)
  let mixing = quasiGlobal && beginQuasiGlobal(parameters, state, peak)
  function update(gradients: Float32Array, options: AdamWOptions): void {
    if (turns === undefined) {
      state = adamw(parameters, gradients, state, options)
      return
    }
    const { m, v, step } = state
    for (const { from, to, updates } of turns(step)) {
      const part = { m: m.subarray(from, to), v: v.subarray(from, to), step: updates }
      adamw(parameters.subarray(from, to), gradients.subarray(from, to), part, options)
    }
    state = { m, v, step: step + 1 }
  }
  function begin(): () => Promise<number> {
    const underWay = trainer.step(parameters.slice(), batches.next())
    // Whoever begins may be gone before it fails.
    underWay.catch(() => undefined)
    return async () => {
      const { loss, gradients } = await underWay
      const learningRate = peak.learningRate * scheduleFactor(schedule, state.step)
      update(gradients, { ...peak, learningRate })
      if (mixing !== undefined) mixing = { ...mixing, rate: mixing.rate + learningRate }
      return loss
    }
  }
  return {
    begin,
    step: () => begin()(),
    mixed() {
      if (mixing !== undefined && quasiGlobal !== undefined)
        mixing = mixQuasiGlobal(parameters, state, mixing, { ...peak, ...quasiGlobal })
    },
    state: () => state,
    cursor: () => batches.cursor()
  }
}
