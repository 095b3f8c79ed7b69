import { createHash } from 'node:crypto'
import type { Update } from '../codec/update.js'
import { decodeSigned, encodeSigned } from '../codec/wire-update.js'
import type { BroadcastEntry } from '../consensus/broadcast-types.js'
import { unitsFromBytes, unitsToBytes } from '../consensus/fixed-point.js'
import { emptyAuthor } from '../consensus/update-chain.js'
import type { BroadcastBase } from './broadcast-log.js'
import type { LogIdentity } from './exchange-log.js'

/**
 * One file of the broadcast log as bytes. Pure. Integers are little-endian.
 *
 *   file:   8 bytes "PTBLOG1\n", then records; the first is the head
 *   record: uint32 bytes of the first part | uint32 of the second | both parts | 32 bytes SHA-256 of everything before
 *
 * Head: JSON of what it belongs to and of the authors of the sum | the sum, float64[size], or nothing where there is
 * none. Behind it: a signed update | nothing, or two signed updates of one author with one number.
 */
export const BROADCAST_MAGIC = Buffer.from('PTBLOG1\n', 'latin1')

const LENGTHS_BYTES = 8
const HASH_BYTES = 32

interface Head extends LogIdentity {
  readonly authors: readonly { readonly author: string; readonly base: number; readonly baseHash: string }[]
}

function record(first: Uint8Array, second: Uint8Array = new Uint8Array(0)): readonly Uint8Array[] {
  const lengths = Buffer.alloc(LENGTHS_BYTES)
  lengths.writeUInt32LE(first.length, 0)
  lengths.writeUInt32LE(second.length, 4)
  return [lengths, first, second, createHash('sha256').update(lengths).update(first).update(second).digest()]
}

export function encodeBroadcastHead(
  { federationHash, schemaHash, size }: LogIdentity,
  base: BroadcastBase | undefined
): readonly Uint8Array[] {
  const authors = [...(base?.state.authors ?? [])].map(([author, { base: at, baseHash }]) => ({
    author,
    base: at,
    baseHash
  }))
  const head: Head = { federationHash, schemaHash, size, authors }
  const json = Buffer.from(JSON.stringify(head))
  return [BROADCAST_MAGIC, ...record(json, base === undefined ? undefined : unitsToBytes(base.units))]
}

export function encodeBroadcastEntry(entry: BroadcastEntry): readonly Uint8Array[] {
  if (entry.kind === 'update') return record(encodeSigned(entry.update))
  const [first, second] = entry.pair
  return record(encodeSigned(first), encodeSigned(second))
}

/** A file as far as it is whole. */
export interface DecodedBroadcastLog {
  readonly identity: LogIdentity
  readonly base: BroadcastBase | undefined
  readonly entries: readonly BroadcastEntry[]
}

/** Undefined where not even the head is whole. Never throws for the bytes. */
export function decodeBroadcastLog(bytes: Uint8Array): DecodedBroadcastLog | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!buffer.subarray(0, BROADCAST_MAGIC.length).equals(BROADCAST_MAGIC)) return undefined
  const first = readRecord(buffer, BROADCAST_MAGIC.length)
  if (first === undefined) return undefined
  const identity = JSON.parse(first.first.toString('utf8')) as Head
  const base = first.second.length === 0 ? undefined : baseOf(identity, first.second)
  if (first.second.length > 0 && base === undefined) return undefined
  const entries: BroadcastEntry[] = []
  for (let at = first.end; ; ) {
    const next = readRecord(buffer, at)
    const entry = next && entryOf(next.first, next.second)
    if (next === undefined || entry === undefined) return { identity, base, entries }
    entries.push(entry)
    at = next.end
  }
}

function baseOf({ authors, size }: Head, bytes: Uint8Array): BroadcastBase | undefined {
  const units = unitsFromBytes(bytes, size)
  if (units === undefined) return undefined
  const state = authors.map(({ author, base, baseHash }) => [author, { ...emptyAuthor, base, baseHash }] as const)
  return { state: { authors: new Map(state) }, units }
}

function readRecord(buffer: Buffer, at: number) {
  if (at + LENGTHS_BYTES > buffer.length) return undefined
  const firstAt = at + LENGTHS_BYTES
  const secondAt = firstAt + buffer.readUInt32LE(at)
  const hashAt = secondAt + buffer.readUInt32LE(at + 4)
  if (hashAt + HASH_BYTES > buffer.length) return undefined
  const hash = createHash('sha256').update(buffer.subarray(at, hashAt)).digest()
  if (!hash.equals(buffer.subarray(hashAt, hashAt + HASH_BYTES))) return undefined
  return {
    first: buffer.subarray(firstAt, secondAt),
    second: buffer.subarray(secondAt, hashAt),
    end: hashAt + HASH_BYTES
  }
}

/** What the hash vouches for was verified and written by this program. */
function entryOf(first: Uint8Array, second: Uint8Array): BroadcastEntry | undefined {
  const update = signed(first)
  if (update === undefined || second.length === 0) return update && { kind: 'update', update }
  const other = signed(second)
  return other && { kind: 'evidence', pair: [update, other] }
}

function signed(bytes: Uint8Array): Update | undefined {
  const read = decodeSigned(Uint8Array.from(bytes), bytes.length)
  return read.ok ? read.value : undefined
}
