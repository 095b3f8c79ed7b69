import { type Decoded, decoded } from '../../base/verdict.js'
import type { ExchangeId, PayloadHeader } from '../../codec/wire/messages.js'
import { euclidean } from '../rules/distance.js'
import { type Edge, edgeAfter, type EdgeStep } from './edges.js'
import type { ExchangeConfig, Side } from './types.js'
import type { PairLayout } from '../rules/layouts.js'
import {
  type MixCode,
  type MixedSides,
  mixSides,
  type MixTask,
  ownSide,
  partnerSide,
  type SideCode
} from './encoded-side.js'

/**
 * The parts of an exchange that take time in proportion to the parameters: what the machine asks for instead of doing it.
 * Plain data and vectors, so that another thread may do it; the answer is the same wherever it is done.
 */
export type ExchangeTask = {
  /** Of the partner, where peers differ in that (layouts.ts). */
  readonly slots?: number | undefined
} /** How far we are from the common start. */ & (
  | { readonly task: 'distance-from-start'; readonly parameters: Float32Array }
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
)

/** What each of them gives. */
export interface TaskResults {
  readonly 'distance-from-start': number
  readonly 'own-side': Side
  readonly 'partner-side': Decoded<Side, SideCode>
  readonly mix: Decoded<MixedSides, MixCode>
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
  const pair = task.slots === undefined ? undefined : config.layouts?.pairWith(task.slots)
  switch (task.task) {
    case 'distance-from-start':
      return (config.measure ?? euclidean)(task.parameters, config.reference).distance
    case 'own-side': {
      const { edge, parameters, exchangeId } = task
      return ownSide({ config: { ...config, ...pair?.own }, edge }, pair?.take(parameters) ?? parameters, exchangeId)
    }
    case 'partner-side':
      return partnerSide({ config: { ...config, ...pair?.partner }, edge: task.edge }, task.header, task.payload)
    case 'mix':
      return pair === undefined ? mixSides(config, task) : mixPair(config, pair, task)
    case 'edge':
      return edgeAfter({ config: { ...config, ...pair?.own }, edge: task.edge }, task.step)
  }
}

/**
 * As the pair lies, for our parameters as they lie. By pairs only: rules over several states and momentum would need all of
 * them to be of one size.
 */
function mixPair(
  { robust: _robust, outer: _outer, ...config }: ExchangeConfig,
  { own, measure, mix, expand }: PairLayout,
  task: MixTask
): Decoded<MixedSides, MixCode> {
  const mixed = mixSides({ ...config, ...own, measure, ...(mix && { mix }) }, task)
  return mixed.ok ? decoded({ ...mixed.value, increment: expand(mixed.value.increment) }) : mixed
}

/** Runs a computation to its end, every task here and now. */
export function runHere<T>(config: ExchangeConfig, working: Working<T>): T {
  for (let next = working.next(); ; ) {
    if (next.done) return next.value
    next = working.next(perform(config, next.value))
  }
}
