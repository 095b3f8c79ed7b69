import { createHash } from 'node:crypto'

/**
 * One record of a log as bytes. Pure. Integers are little-endian.
 *
 *   uint32 bytes of the first part | uint32 of the second | both parts | 32 bytes SHA-256 of everything before
 *
 * A record that a crash cut off is known for one by its hash.
 */
export interface LogRecord {
  readonly first: Buffer
  readonly second: Buffer
}

const LENGTHS_BYTES = 8
const HASH_BYTES = 32

/** Bytes hashed in one go: about a millisecond. */
const HASH_SLICE_BYTES = 1 << 20

const NOTHING = new Uint8Array(0)

/** In pieces that are not copied; stops after every slice that is hashed, so that others get a turn. */
export function* encodeRecord(
  first: Uint8Array,
  second: Uint8Array = NOTHING
): Generator<undefined, readonly Uint8Array[], undefined> {
  const lengths = Buffer.alloc(LENGTHS_BYTES)
  lengths.writeUInt32LE(first.length, 0)
  lengths.writeUInt32LE(second.length, 4)
  const hash = createHash('sha256').update(lengths).update(first)
  for (let at = 0; at < second.length; at += HASH_SLICE_BYTES) {
    if (at > 0) yield
    hash.update(second.subarray(at, at + HASH_SLICE_BYTES))
  }
  return [lengths, first, second, hash.digest()]
}

/**
 * The records behind `magic` as far as the file is whole, as views; none where it begins otherwise. Lengths, and
 * `maxFirstBytes` where there is one, are checked before anything is read by them.
 */
export function* readRecords(
  bytes: Uint8Array,
  magic: Buffer,
  maxFirstBytes = Number.POSITIVE_INFINITY
): Generator<LogRecord, undefined, undefined> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!buffer.subarray(0, magic.length).equals(magic)) return
  for (let at = magic.length; at + LENGTHS_BYTES <= buffer.length; ) {
    const firstAt = at + LENGTHS_BYTES
    const secondAt = firstAt + buffer.readUInt32LE(at)
    const hashAt = secondAt + buffer.readUInt32LE(at + 4)
    const end = hashAt + HASH_BYTES
    if (secondAt - firstAt > maxFirstBytes || end > buffer.length) return
    const hash = createHash('sha256').update(buffer.subarray(at, hashAt)).digest()
    if (!hash.equals(buffer.subarray(hashAt, end))) return
    yield { first: buffer.subarray(firstAt, secondAt), second: buffer.subarray(secondAt, hashAt) }
    at = end
  }
}

/** Entries up to the first record that is none. */
export function wholeEntries<Entry>(
  records: Iterable<LogRecord>,
  entryOf: (record: LogRecord) => Entry | undefined
): readonly Entry[] {
  const entries: Entry[] = []
  for (const record of records) {
    const entry = entryOf(record)
    if (entry === undefined) break
    entries.push(entry)
  }
  return entries
}
