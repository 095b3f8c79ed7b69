import { closeSync, openSync, readSync } from 'node:fs'
import { PeertuneError } from '../../base/errors.js'
import { cannotRead } from './files.js'
import { createNumberList } from './number-list.js'
import type { FoundRow, Row } from './row.js'
import { createSpool, type Spool } from './spool.js'

/** Rows of one peer; 24 bytes each are held of them. */
export const MAX_ROWS = 100_000_000

/** Rows by place, their content on disk. */
export interface RowStore {
  readonly size: number
  add(row: FoundRow): void
  /** Of a place below `size`. Throws `data/changed` when the file is no longer what it was, `data/no-file` without it. */
  at(index: number): Row
  close(): void
}

/**
 * Remembers where rows lie instead of what they say, so that a gigabyte of text takes some tens of megabytes: rows of a
 * JSONL file where they are in that file, other rows (whose format cannot be entered in the middle) as JSON of the wanted
 * columns in a spool. A row is read, and only then tokenised, when a batch asks for it: tokenising ahead would take
 * twenty minutes for that gigabyte and half of it in memory.
 */
export function createRowStore(path: string, columns: readonly string[]): RowStore {
  const starts = createNumberList(Float64Array)
  const lengths = createNumberList(Uint32Array)
  const places = createNumberList(Uint32Array)
  let unit: Row['unit'] = 'line'
  let spool: Spool | undefined
  let file: number | undefined

  const read = (start: number, length: number): Uint8Array => {
    if (spool !== undefined) return spool.read(start, length)
    try {
      file ??= openSync(path, 'r')
      const bytes = Buffer.alloc(length)
      readSync(file, bytes, 0, length, start)
      return bytes
    } catch (cause) {
      throw cannotRead(path, cause)
    }
  }
  return {
    get size() {
      return starts.length
    },
    add(row) {
      if (starts.length === MAX_ROWS) throw tooManyRows(path)
      if (row.bytes === undefined) spool ??= createSpool()
      const { start, length } = row.bytes ?? spooled(spool as Spool, row, columns)
      unit = row.unit
      starts.push(start)
      lengths.push(length)
      places.push(row.place)
    },
    at(index) {
      const at = { file: path, unit, place: places.at(index) }
      return { ...at, fields: parsed(read(starts.at(index), lengths.at(index)), at) }
    },
    close() {
      spool?.close()
      if (file !== undefined) closeSync(file)
      file = undefined
    }
  }
}

function spooled(spool: Spool, { fields }: Row, columns: readonly string[]) {
  const bytes = Buffer.from(JSON.stringify(Object.fromEntries(columns.map((column) => [column, fields[column]]))))
  const start = spool.size
  spool.append(bytes)
  return { start, length: bytes.length }
}

function parsed(bytes: Uint8Array, at: Pick<Row, 'file' | 'unit' | 'place'>): Record<string, unknown> {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')) as Record<
      string,
      unknown
    >
  } catch (cause) {
    throw changed(at, cause)
  }
}

/** A row that was whole when it was first read is not now. */
export const changed = ({ file, unit, place }: Pick<Row, 'file' | 'unit' | 'place'>, cause?: unknown): PeertuneError =>
  new PeertuneError('data/changed', `${file} has changed at ${unit} ${place} since the node was started`, {
    facts: { file, [unit]: place },
    hint: 'leave the file as it is while the node runs, or start the node again',
    cause
  })

const tooManyRows = (file: string): PeertuneError =>
  new PeertuneError('data/too-many-rows', `${file} has more than ${MAX_ROWS} rows`, {
    facts: { file, expected: MAX_ROWS },
    hint: 'give this peer a part of the data'
  })
