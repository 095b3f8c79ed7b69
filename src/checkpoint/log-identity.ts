import { PeertuneError } from '../base/errors.js'
import type { CheckpointIdentity } from './state.js'

/** What a log must be of to be of use. */
export interface LogIdentity extends CheckpointIdentity {
  /** Elements of a vector; follows from the schema. */
  readonly size: number
}

/** A log as its reader names it to the operator. */
export interface NamedLog {
  readonly what: string
  readonly path: string
}

/** Throws `checkpoint/other-federation` and `checkpoint/other-schema`. */
export function checkIdentity(found: LogIdentity, expected: LogIdentity, { what, path }: NamedLog): void {
  const federation = found.federationHash !== expected.federationHash
  if (!federation && found.schemaHash === expected.schemaHash && found.size === expected.size) return
  throw new PeertuneError(
    federation ? 'checkpoint/other-federation' : 'checkpoint/other-schema',
    `the ${what} belongs to another ${federation ? 'federation' : 'parameter schema'}`,
    { facts: { path }, hint: 'use one data directory for each federation' }
  )
}
