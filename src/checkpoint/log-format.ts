import { endianness } from 'node:os'
import type { LogEntry } from '../consensus/exchange/exchange-log.js'
import type { LogIdentity } from './log-identity.js'
import { encodeRecord, type LogRecord, readRecords, wholeEntries } from './record.js'

/**
 * One segment of the exchange log as bytes. Pure. Floats are little-endian.
 *
 *   segment: 8 bytes "PTXLOG1\n", then records; the first is the head, without an increment
 *   record:  JSON, UTF-8 | float32[size] or nothing
 */
export const LOG_MAGIC = Buffer.from('PTXLOG1\n', 'latin1')

/** Ids, a peer's name and a phase are below 1 KB. */
const MAX_JSON_BYTES = 64 * 1024

/** The first record of a segment. */
export interface LogHead extends LogIdentity {
  /** Number of the segment's first entry. */
  readonly first: number
}

type Plain<Entry> = Entry extends LogEntry ? Omit<Entry, 'increment'> : never

type Slices = ReturnType<typeof encodeRecord>

const encodeJson = (json: object, increment?: Float32Array): Slices =>
  encodeRecord(Buffer.from(JSON.stringify(json)), increment && bytesOf(increment))

export const encodeHead = (head: LogHead): Slices => encodeJson(head)

export function encodeEntry(entry: LogEntry): Slices {
  if (entry.kind === 'settled') return encodeJson(entry)
  const { increment, ...plain } = entry
  return encodeJson(plain, increment)
}

/** A segment as far as it is whole. */
export interface DecodedSegment {
  readonly head: LogHead
  readonly entries: readonly LogEntry[]
}

/** Undefined where not even the head is whole. Never throws for the bytes. */
export function decodeSegment(bytes: Uint8Array): DecodedSegment | undefined {
  const records = readRecords(bytes, LOG_MAGIC, MAX_JSON_BYTES)
  const first = records.next().value
  if (first === undefined) return undefined
  const head = jsonOf(first) as LogHead
  return { head, entries: wholeEntries(records, (record) => entryOf(record, head.size)) }
}

/** What the hash vouches for was written by this program. */
const jsonOf = ({ first }: LogRecord): unknown => JSON.parse(first.toString('utf8'))

function entryOf(record: LogRecord, size: number): LogEntry | undefined {
  const plain = jsonOf(record) as Plain<LogEntry>
  if (plain.kind === 'settled') return plain
  return record.second.length === 4 * size ? { ...plain, increment: floatsOf(record.second) } : undefined
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
