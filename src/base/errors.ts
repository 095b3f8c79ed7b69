/** Facts a reader needs to act on an error: names, what was expected, what was got. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | readonly (string | number)[] | undefined>>

export interface ErrorOptions {
  readonly facts?: ErrorFacts
  /** One sentence that says what to do next, a command where one fixes it. */
  readonly hint?: string
  readonly cause?: unknown
}

/**
 * Thrown for our own bugs and for the operator's mistakes, never for what a peer sent (see verdict.ts).
 * `code` is stable and kebab-case, prefixed by the room: `onnx/not-a-model`, `config/unknown-key`.
 */
export class PeertuneError<Code extends string = string> extends Error {
  override readonly name = 'PeertuneError'
  readonly code: Code
  readonly facts: ErrorFacts
  readonly hint: string | undefined

  constructor(code: Code, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.facts = options.facts ?? {}
    this.hint = options.hint
  }
}

/** The operator's mistake in a config, federation or command line: exit code 2. */
export const CONFIG_ERROR_PREFIX = 'config/'

export const isPeertuneError = (error: unknown): error is PeertuneError =>
  error instanceof Error && error.name === 'PeertuneError' && 'code' in error

/** One line for people: message, then the hint. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (isPeertuneError(error) && error.hint !== undefined) return `${error.message} (${error.hint})`
  return error.message
}
