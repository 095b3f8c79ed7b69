import type { RngState } from '../base/rng.js'
import type { NodeState } from './state.js'

/** The state without its vectors, as JSON; and the names of the vectors that follow, in order. */
export interface CheckpointManifest extends Omit<NodeState, 'parameters' | 'adam' | 'inDoubt'> {
  readonly adamStep: number
  /** Float32 elements of every section. */
  readonly size: number
  /** Exchange ids of the sections behind parameters, m and v. */
  readonly inDoubt: readonly string[]
}

export function manifestOf(state: NodeState): CheckpointManifest {
  const { parameters, adam, inDoubt, ...rest } = state
  return { ...rest, adamStep: adam.step, size: parameters.length, inDoubt: Object.keys(inDoubt) }
}

type Check = (value: unknown) => boolean

const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const isText: Check = (value) => typeof value === 'string'
const isRecord = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
const isUint32: Check = (value) => isCount(value) && (value as number) <= 0xffff_ffff
const isRngState = (value: unknown): value is RngState =>
  Array.isArray(value) && value.length === 4 && value.every(isUint32)

const FIELDS: Readonly<Record<keyof CheckpointManifest, Check>> = {
  federationHash: isText,
  schemaHash: isText,
  step: isCount,
  exchanges: isCount,
  phase: isText,
  rng: (value) => isRecord(value) && Object.values(value).every(isRngState),
  cursor: (value) => isRecord(value) && isCount(value.epoch) && isCount(value.position),
  journal: (value) => value !== undefined,
  bytesSent: isCount,
  bytesReceived: isCount,
  savedAtMs: (value) => typeof value === 'number',
  adamStep: isCount,
  size: isCount,
  inDoubt: (value) => Array.isArray(value) && value.every(isText) && new Set(value).size === value.length
}

/** The manifest, or the name of the first field that is missing or of another type. */
export function parseManifest(value: unknown): CheckpointManifest | { readonly badField: string } {
  if (!isRecord(value)) return { badField: '(the whole)' }
  const bad = Object.entries(FIELDS).find(([name, check]) => !check(value[name]))
  return bad === undefined ? (value as unknown as CheckpointManifest) : { badField: bad[0] }
}
