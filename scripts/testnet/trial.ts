import type { TestnetOptions } from './options.js'
import type { Scenario } from './scenario.js'

/** One run of the testnet: what is learned, how it was asked for, and what ends it before its time. */
export interface Trial {
  readonly scenario: Scenario
  readonly options: TestnetOptions
  readonly signal: AbortSignal
}
