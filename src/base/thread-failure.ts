import { type ErrorFacts, isPeertuneError, PeertuneError } from './errors.js'

/** An error as it crosses from thread to thread: plain data. */
export interface ThreadFailure {
  readonly message: string
  /** Absent for errors that are not ours. */
  readonly code?: string
  readonly facts?: ErrorFacts
  readonly hint?: string
  readonly stack?: string
}

/** On the thread where it happened. */
export function failureOf(error: unknown): ThreadFailure {
  const message = error instanceof Error ? error.message : String(error)
  const stack = error instanceof Error && error.stack !== undefined ? { stack: error.stack } : {}
  if (!isPeertuneError(error)) return { message, ...stack }
  const { code, facts, hint } = error
  return { message, code, facts, ...(hint === undefined ? {} : { hint }), ...stack }
}

/** On the thread that asked; `where` names the other in the cause. */
export function errorOf({ message, code, facts, hint, stack }: ThreadFailure, where: string): Error {
  const cause = stack === undefined ? {} : { cause: `in ${where}: ${stack}` }
  if (code === undefined) return new Error(message, cause)
  return new PeertuneError(code, message, { facts: facts ?? {}, ...(hint === undefined ? {} : { hint }), ...cause })
}
