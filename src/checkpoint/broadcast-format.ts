import type { Update } from '../codec/wire/update.js'
import { decodeSigned, encodeSigned } from '../codec/wire/update-frame.js'
import type { BroadcastBase, BroadcastEntry } from '../consensus/broadcast/types.js'
import { unitsFromBytes, unitsToBytes } from '../consensus/broadcast/fixed-point.js'
import { emptyAuthor } from '../consensus/broadcast/update-chain.js'
import type { LogIdentity } from './log-identity.js'
import { encodeRecord, readRecords, wholeEntries } from './record.js'

/**
 * One file of the broadcast log as bytes. Pure.
 *
 *   file:   8 bytes "PTBLOG1\n", then records; the first is the head
 *
 * Head: JSON of what it belongs to and of the authors of the snapshot | the snapshot, float64[size], or nothing where there is
 * none. Behind it: a signed update | nothing, or two signed updates of one author with one number.
 */
const BROADCAST_MAGIC = Buffer.from('PTBLOG1\n', 'latin1')

interface Head extends LogIdentity {
  readonly authors: readonly { readonly author: string; readonly base: number; readonly baseHash: string }[]
}

/** In one go: updates are small. */
function record(first: Uint8Array, second?: Uint8Array): readonly Uint8Array[] {
  const slices = encodeRecord(first, second)
  for (;;) {
    const { done, value } = slices.next()
    if (done) return value
  }
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
  const records = readRecords(bytes, BROADCAST_MAGIC)
  const head = records.next().value
  if (head === undefined) return undefined
  const identity = JSON.parse(head.first.toString('utf8')) as Head
  const base = head.second.length === 0 ? undefined : baseOf(identity, head.second)
  if (head.second.length > 0 && base === undefined) return undefined
  return { identity, base, entries: wholeEntries(records, ({ first, second }) => entryOf(first, second)) }
}

function baseOf({ authors, size }: Head, bytes: Uint8Array): BroadcastBase | undefined {
  const units = unitsFromBytes(bytes, size)
  if (units === undefined) return undefined
  const state = authors.map(({ author, base, baseHash }) => [author, { ...emptyAuthor, base, baseHash }] as const)
  return { state: { authors: new Map(state) }, units }
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
