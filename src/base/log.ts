import type { ErrorFacts } from './errors.js'

/** What every room logs through; node/ injects pino. Facts first, one sentence second. */
export interface Logger {
  debug(facts: ErrorFacts, message: string): void
  info(facts: ErrorFacts, message: string): void
  warn(facts: ErrorFacts, message: string): void
  error(facts: ErrorFacts, message: string): void
}

const nothing = () => undefined
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
