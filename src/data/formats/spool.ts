import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { reasonOf } from '../../base/system-error.js'

/** Bytes of one block, the unit that is kept or written. */
const BLOCK_BYTES = 1024 * 1024
/** Blocks of one spool that stay in memory; what comes after them lies in a file. */
const MEMORY_BLOCKS = 32
/** Bytes of one spool: more than that is a mistake in the configuration and not somebody's data. */
const MAX_SPOOL_BYTES = 256 * 1024 * BLOCK_BYTES

/** Bytes that are appended once and read back at any place. */
export interface Spool {
  readonly size: number
  /** Throws `data/spool-full` beyond the bound, and `data/cannot-spool` where the disk refuses. */
  append(bytes: Uint8Array): void
  /** A copy of `length` bytes from `start`; both must lie within `size`. */
  read(start: number, length: number): Uint8Array<ArrayBuffer>
  close(): void
}

export interface SpoolOptions {
  readonly memoryBlocks?: number
  readonly maxBytes?: number
}

/**
 * A spool whose first 32 MiB are in memory and whose rest is in a temporary file that only this process can reach: it has
 * no name any more once it is open. Both are synchronous, because a batch is made between two steps and what it reads
 * comes from the page cache in microseconds.
 */
export function createSpool({ memoryBlocks = MEMORY_BLOCKS, maxBytes = MAX_SPOOL_BYTES }: SpoolOptions = {}): Spool {
  const kept: Uint8Array[] = []
  let last = new Uint8Array(BLOCK_BYTES)
  let size = 0
  let file: number | undefined

  const put = (block: Uint8Array, index: number): void => {
    if (index < memoryBlocks) {
      kept.push(block)
      return
    }
    try {
      file ??= openNameless()
      writeWhole(file, block, (index - memoryBlocks) * BLOCK_BYTES)
    } catch (cause) {
      throw cannotSpool(cause)
    }
  }
  /** Fills `out` from one block, from `start` on. */
  const fill = (out: Uint8Array, start: number): void => {
    const index = Math.floor(start / BLOCK_BYTES)
    const within = start % BLOCK_BYTES
    const block = index === Math.floor(size / BLOCK_BYTES) ? last : kept[index]
    if (block !== undefined) out.set(block.subarray(within, within + out.length))
    else readSync(file!, out, 0, out.length, (index - memoryBlocks) * BLOCK_BYTES + within)
  }
  return {
    get size() {
      return size
    },
    append(bytes) {
      if (size + bytes.length > maxBytes) throw spoolFull(size + bytes.length, maxBytes)
      for (let at = 0; at < bytes.length; ) {
        const within = size % BLOCK_BYTES
        const part = bytes.subarray(at, at + BLOCK_BYTES - within)
        last.set(part, within)
        at += part.length
        size += part.length
        if (within + part.length < BLOCK_BYTES) continue
        put(last, size / BLOCK_BYTES - 1)
        last = new Uint8Array(BLOCK_BYTES)
      }
    },
    read(start, length) {
      const out = new Uint8Array(length)
      for (let at = 0; at < length; ) {
        const room = BLOCK_BYTES - ((start + at) % BLOCK_BYTES)
        fill(out.subarray(at, at + room), start + at)
        at += room
      }
      return out
    },
    close() {
      if (file !== undefined) closeSync(file)
      file = undefined
    }
  }
}

/** Readable by us alone, and gone when we are. */
function openNameless(): number {
  const folder = mkdtempSync(join(tmpdir(), 'peertune-spool-'))
  const file = openSync(join(folder, 'spool'), 'wx+', 0o600)
  rmSync(folder, { recursive: true, force: true })
  return file
}

/** A disk that is filling up takes a part and says nothing. */
function writeWhole(file: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, position + at)
}

function cannotSpool(cause: unknown): PeertuneError {
  const folder = tmpdir()
  return new PeertuneError('data/cannot-spool', `cannot keep the examples in ${folder} (${reasonOf(cause)})`, {
    facts: { folder },
    hint: 'make room there, or name a folder on another disk: TMPDIR=DIR',
    cause
  })
}

const spoolFull = (got: number, expected: number): PeertuneError =>
  new PeertuneError('data/spool-full', `the examples take ${got} bytes, more than the ${expected} of a spool`, {
    facts: { expected, got },
    hint: 'give this peer a part of the data'
  })
