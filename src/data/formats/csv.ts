import { pipeline } from 'node:stream'
import { CsvError, type Parser, parse } from 'csv-parse'
import { readPieces } from './files.js'
import { badRow, checkColumns, type ReadRow, type ReadRows } from './row.js'

/** Characters of one record, so that a quote that never closes cannot fill the memory. */
const MAX_RECORD_CHARACTERS = 8 * 1024 * 1024
/** Records between two turns of the event loop. */
const PIECE_ROWS = 500
/** Columns of one file. */
const MAX_COLUMNS = 4096

/** What csv-parse gives for each record with `info`. */
interface Parsed {
  readonly record: readonly string[]
  readonly info: { readonly lines: number; readonly bytes: number }
}

/**
 * The records of a CSV file (RFC 4180) whose first record names the columns; `delimiter` is one character, a tab for TSV.
 * A record may reach over several lines; its place is the line it begins on. Every field is text.
 */
export const readCsv = (delimiter: string): ReadRows =>
  async function* (path, { columns, signal }) {
    const parser = parserOf(delimiter)
    // Each end of it ends the other, and what ended the first is thrown by the second.
    pipeline(readPieces(path, { signal }), parser, () => undefined)
    let header: readonly string[] | undefined
    let line = 1
    let piece: ReadRow[] = []
    try {
      for await (const { record, info } of parser as AsyncIterable<Parsed>) {
        if (header === undefined) {
          header = headerOf(path, record, columns)
        } else piece.push(rowOf({ file: path, unit: 'line', place: line }, header, record))
        line = info.lines + 1
        if (piece.length < PIECE_ROWS) continue
        yield { rows: piece, bytes: info.bytes }
        piece = []
      }
    } catch (error) {
      throw signal?.aborted ? signal.reason : readable(error, path, line)
    }
    yield { rows: piece, bytes: parser.info.bytes }
  }

const parserOf = (delimiter: string): Parser =>
  parse({
    bom: true,
    delimiter,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_CHARACTERS
  })

function headerOf(path: string, record: readonly string[], columns: readonly string[]): readonly string[] {
  if (record.length > MAX_COLUMNS)
    throw badRow({ file: path, unit: 'line', place: 1 }, `at most ${MAX_COLUMNS} columns`, String(record.length))
  checkColumns(path, columns, record)
  return record
}

function rowOf(at: Parameters<typeof badRow>[0], header: readonly string[], record: readonly string[]): ReadRow {
  if (record.length !== header.length)
    return badRow(at, `${header.length} fields, as the first line names`, String(record.length))
  return { ...at, fields: Object.fromEntries(header.map((name, i) => [name, record[i]])) }
}

/** A quote in the wrong place leaves no way to tell where the next record begins: this ends the reading. */
function readable(error: unknown, file: string, line: number): unknown {
  if (!(error instanceof CsvError)) return error
  const place = 'lines' in error && typeof error.lines === 'number' ? error.lines : line
  return badRow({ file, unit: 'line', place }, 'CSV as in RFC 4180', error.message, { cause: error })
}
