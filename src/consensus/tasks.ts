import type { Decoded } from '../base/verdict.js'
import type { ExchangeId, PayloadHeader } from '../codec/messages.js'
import { euclidean } from './distance.js'
import { type Edge, edgeAfter, type EdgeStep } from './edges.js'
import type { ExchangeConfig, Side } from './exchange-types.js'
import { type MixedSides, mixSides, type MixTask, ownSide, partnerSide, type SideCode } from './sides.js'

/**
 * The parts of an exchange that take time in proportion to the parameters: what the machine asks for instead of doing it.
 * Plain data and vectors, so that another thread may do it; the answer is the same wherever it is done.
 */
export type ExchangeTask =
  /** How far we are from the common start. */
  | { readonly task: 'travelled'; readonly parameters: Float32Array }
  | {
      readonly task: 'own-side'
      readonly edge: Edge | undefined
      readonly parameters: Float32Array
      readonly exchangeId: ExchangeId
    }
  | {
      readonly task: 'partner-side'
      readonly edge: Edge | undefined
      readonly header: PayloadHeader
      readonly payload: Uint8Array | undefined
    }
  | (MixTask & { readonly task: 'mix' })
  | { readonly task: 'edge'; readonly edge: Edge | undefined; readonly step: EdgeStep }

/** What each of them gives. */
export interface TaskResults {
  readonly travelled: number
  readonly 'own-side': Side
  readonly 'partner-side': Decoded<Side, SideCode>
  readonly mix: Decoded<MixedSides, 'codec/not-finite'>
  readonly edge: Edge | undefined
}

/** A computation that stops at every task and goes on with its result. */
export type Working<T> = Generator<ExchangeTask, T, unknown>

/** Asks whoever runs the computation for the result of a task. */
export function* ask<Kind extends keyof TaskResults>(
  task: Extract<ExchangeTask, { readonly task: Kind }>
): Working<TaskResults[Kind]> {
  return (yield task) as TaskResults[Kind]
}

/** Does one task here and now. Throws `codec/*` and `consensus/*` as `ownSide` does. */
export function perform(config: ExchangeConfig, task: ExchangeTask): TaskResults[keyof TaskResults] {
  switch (task.task) {
    case 'travelled':
      return (config.measure ?? euclidean)(task.parameters, config.reference).distance
    case 'own-side':
      return ownSide(config, task.edge, task.parameters, task.exchangeId)
    case 'partner-side':
      return partnerSide(config, task.edge, task.header, task.payload)
    case 'mix':
      return mixSides(config, task)
    case 'edge':
      return edgeAfter(config, task.edge, task.step)
  }
}

/** Runs a computation to its end, every task here and now. */
export function runHere<T>(config: ExchangeConfig, working: Working<T>): T {
  for (let next = working.next(); ; ) {
    if (next.done) return next.value
    next = working.next(perform(config, next.value))
  }
}
