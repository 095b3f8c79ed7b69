import { createHash } from 'node:crypto'
import { endianness } from 'node:os'
import type { LogEntry } from '../consensus/exchange-log.js'
import type { LogIdentity } from './exchange-log.js'

/**
 * One segment of the exchange log as bytes. Pure. Integers and floats are little-endian.
 *
 *   segment: 8 bytes "PTXLOG1\n", then records; the first is the head, without an increment
 *   record:  uint32 JSON bytes | uint32 increment bytes | JSON, UTF-8 | float32[size] or nothing | 32 bytes SHA-256
 *
 * The hash is of everything before it in the record, so a record that a crash cut off is known for one.
 */
export const LOG_MAGIC = Buffer.from('PTXLOG1\n', 'latin1')

/** Ids, a peer's name and a phase are below 1 KB. */
const MAX_JSON_BYTES = 64 * 1024
const LENGTHS_BYTES = 8
const HASH_BYTES = 32

/** The first record of a segment. */
export interface LogHead extends LogIdentity {
  /** Number of the segment's first entry. */
  readonly first: number
}

type Plain<Entry> = Entry extends LogEntry ? Omit<Entry, 'increment'> : never

/** Bytes hashed in one go: about a millisecond. */
const HASH_SLICE_BYTES = 1 << 20

/** One record, in pieces that are not copied; stops after every slice that is hashed, so that others get a turn. */
export function* encodeRecord(
  json: object,
  increment?: Float32Array
): Generator<undefined, readonly Uint8Array[], undefined> {
  const text = Buffer.from(JSON.stringify(json))
  const floats = increment === undefined ? Buffer.alloc(0) : bytesOf(increment)
  const lengths = Buffer.alloc(LENGTHS_BYTES)
  lengths.writeUInt32LE(text.length, 0)
  lengths.writeUInt32LE(floats.length, 4)
  const hash = createHash('sha256').update(lengths).update(text)
  for (let at = 0; at < floats.length; at += HASH_SLICE_BYTES) {
    if (at > 0) yield
    hash.update(floats.subarray(at, at + HASH_SLICE_BYTES))
  }
  return [lengths, text, floats, hash.digest()]
}

export function encodeEntry(entry: LogEntry): ReturnType<typeof encodeRecord> {
  if (entry.kind === 'settled') return encodeRecord(entry)
  const { increment, ...plain } = entry
  return encodeRecord(plain, increment)
}

/** A segment as far as it is whole. */
export interface DecodedSegment {
  readonly head: LogHead
  readonly entries: readonly LogEntry[]
}

/** Undefined where not even the head is whole. Never throws for the bytes. */
export function decodeSegment(bytes: Uint8Array): DecodedSegment | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!buffer.subarray(0, LOG_MAGIC.length).equals(LOG_MAGIC)) return undefined
  const first = readRecord(buffer, LOG_MAGIC.length)
  if (first === undefined) return undefined
  const head = first.json as LogHead
  const entries: LogEntry[] = []
  for (let at = first.end; ; ) {
    const record = readRecord(buffer, at)
    const entry = record && entryOf(record, head.size)
    if (record === undefined || entry === undefined) return { head, entries }
    entries.push(entry)
    at = record.end
  }
}

interface Record {
  readonly json: unknown
  readonly floats: Buffer
  readonly end: number
}

/** What the hash vouches for was written by this program; lengths are checked before anything is read by them. */
function readRecord(buffer: Buffer, at: number): Record | undefined {
  if (at + LENGTHS_BYTES > buffer.length) return undefined
  const jsonBytes = buffer.readUInt32LE(at)
  const floatBytes = buffer.readUInt32LE(at + 4)
  const floatsAt = at + LENGTHS_BYTES + jsonBytes
  const hashAt = floatsAt + floatBytes
  if (jsonBytes > MAX_JSON_BYTES || hashAt + HASH_BYTES > buffer.length) return undefined
  const hash = createHash('sha256').update(buffer.subarray(at, hashAt)).digest()
  if (!hash.equals(buffer.subarray(hashAt, hashAt + HASH_BYTES))) return undefined
  const json: unknown = JSON.parse(buffer.toString('utf8', at + LENGTHS_BYTES, floatsAt))
  return { json, floats: buffer.subarray(floatsAt, hashAt), end: hashAt + HASH_BYTES }
}

function entryOf({ json, floats }: Record, size: number): LogEntry | undefined {
  const plain = json as Plain<LogEntry>
  if (plain.kind === 'settled') return plain
  return floats.length === 4 * size ? { ...plain, increment: floatsOf(floats) } : undefined
}

/** A view where the machine is little-endian, as all that run onnxruntime are. */
function bytesOf(vector: Float32Array): Buffer {
  const bytes = Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength)
  return endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32()
}

function floatsOf(bytes: Buffer): Float32Array {
  const vector = new Float32Array(bytes.length / 4)
  const target = Buffer.from(vector.buffer)
  target.set(bytes)
  if (endianness() !== 'LE') target.swap32()
  return vector
}
