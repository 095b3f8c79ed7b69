import { PeertuneError } from '../../base/errors.js'

/** Characters of a wrong value that a sentence repeats. */
const SHOWN_CHARACTERS = 60
/** Column names that a sentence lists. */
const SHOWN_NAMES = 20

/** One row of a table, whatever file it came from. */
export interface Row {
  readonly file: string
  /** What `place` counts: lines of a text file, or records. Both from 1. */
  readonly unit: 'line' | 'row'
  readonly place: number
  readonly fields: Readonly<Record<string, unknown>>
}

/** Where a reader found a row in its file, in bytes; absent where a row is no run of bytes. */
export interface FoundRow extends Row {
  readonly bytes?: { readonly start: number; readonly length: number }
}

/** A row that could not be read is the error that says why: whoever reads decides whether that ends it. */
export type ReadRow = FoundRow | PeertuneError<'data/bad-row'>

/** How far a reader has come. */
export interface ReadProgress {
  readonly file: string
  readonly bytes: number
  readonly totalBytes: number
  readonly rows: number
}

export interface ReadOptions {
  /** Columns to be read; others may be left out of the fields. */
  readonly columns: readonly string[]
  readonly signal?: AbortSignal
}

/**
 * Rows in pieces of at most a few megabytes; between two pieces the event loop goes round. Throws `data/no-file`,
 * `data/no-column` and what its format may suffer from.
 */
export type ReadRows = (
  path: string,
  options: ReadOptions
) => AsyncGenerator<{ readonly rows: readonly ReadRow[]; readonly bytes: number }>

type RowPlace = Pick<Row, 'file' | 'unit' | 'place'>

export const badRow = (
  { file, unit, place }: RowPlace,
  expected: string,
  got: string,
  { column, cause }: { readonly column?: string; readonly cause?: unknown } = {}
): PeertuneError<'data/bad-row'> =>
  new PeertuneError('data/bad-row', `${file}, ${unit} ${place}: expected ${expected}, got ${got}`, {
    facts: { file, [unit]: place, ...(column === undefined ? {} : { column }), expected, got },
    hint: 'put the row right, or let broken rows be left out and counted with `badRows: skip`',
    cause
  })

/** Throws `data/no-column` when a file whose columns are known lacks one that is wanted. */
export function checkColumns(file: string, wanted: readonly string[], found: readonly string[]): void {
  const missing = wanted.find((column) => !found.includes(column))
  if (missing === undefined) return
  const known = found.slice(0, SHOWN_NAMES)
  throw new PeertuneError('data/no-column', `${file} has no column "${missing}": it has ${known.join(', ')}`, {
    facts: { file, column: missing, expected: known },
    hint: 'name the right one under `columns` in the data section'
  })
}

export const clip = (text: string): string =>
  text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text

/** A value as a sentence names it. */
const shown = (row: Row, column: string): string => {
  const value = row.fields[column]
  return value === undefined ? `no "${column}"` : `"${column}": ${clip(JSON.stringify(value) ?? String(value))}`
}

const wrong = (row: Row, column: string, expected: string): PeertuneError =>
  badRow(row, `${expected} in column "${column}"`, shown(row, column), { column })

export function textOf(row: Row, column: string): string {
  const value = row.fields[column]
  if (typeof value === 'string') return value
  throw wrong(row, column, 'a text')
}

/** A finite number; a table of text holds it as text. */
export function numberOf(row: Row, column: string): number {
  const value = row.fields[column]
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof number === 'number' && Number.isFinite(number)) return number
  throw wrong(row, column, 'a finite number')
}

/** The name of a group, such as a speaker. */
export function groupOf(row: Row, column: string): string {
  const value = row.fields[column]
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw wrong(row, column, 'a text or a number')
}

/** Finds the index of a label by its name, or takes a whole number that is one. Undefined for a stranger. */
export type LabelIndex = (value: unknown) => number | undefined

export function labelIndex(labels: readonly string[]): LabelIndex {
  const places = new Map(labels.map((label, index) => [label, index]))
  const isIndex = (index: number) => Number.isInteger(index) && index >= 0 && index < labels.length
  return (value) => {
    if (typeof value !== 'string') return typeof value === 'number' && isIndex(value) ? value : undefined
    const index = places.get(value)
    if (index !== undefined || value.trim() === '') return index
    return isIndex(Number(value)) ? Number(value) : undefined
  }
}

export function labelOf(row: Row, column: string, index: LabelIndex, count: number): number {
  const found = index(row.fields[column])
  if (found !== undefined) return found
  throw wrong(row, column, `one of the ${count} labels of the task, by name or number,`)
}

/** A list of words; in a table of text, words between spaces. */
export function wordsOf(row: Row, column: string): readonly string[] {
  const value = row.fields[column]
  const words = typeof value === 'string' ? value.split(/\s+/).filter((word) => word !== '') : value
  if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words as readonly string[]
  throw wrong(row, column, 'a list of words')
}

/** One label a word. */
export function tagsOf(row: Row, column: string, words: number, index: LabelIndex): Int32Array {
  const value = row.fields[column]
  const tags = typeof value === 'string' ? value.split(/\s+/).filter((tag) => tag !== '') : value
  if (!Array.isArray(tags)) throw wrong(row, column, 'a list of labels')
  if (tags.length !== words)
    throw badRow(row, `${words} labels in column "${column}", one a word`, String(tags.length), { column })
  return Int32Array.from(tags as readonly unknown[], (tag, word) => {
    const found = index(tag)
    if (found !== undefined) return found
    throw badRow(row, 'labels of the task', `${clip(JSON.stringify(tag) ?? '')} at word ${word + 1}`, { column })
  })
}
