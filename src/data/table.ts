import { isPeertuneError, PeertuneError } from '../base/errors.js'
import type { TaskSpec } from '../base/federation.js'
import type { DataSummary } from './batches/batch.js'
import { type Collection, chooseHeldOut } from './splits/choose.js'
import { causalCollator, type ModelInputs, tokenInputsOf } from './batches/collate.js'
import { contentKey } from './splits/content-key.js'
import { readCsv } from './formats/csv.js'
import type { DatasetParts, Examples } from './batches/dataset.js'
import { emptyFile, orClosed, statFile } from './formats/files.js'
import { readJsonl } from './formats/jsonl.js'
import { createNumberList } from './formats/number-list.js'
import { checkSequences, packRows } from './text/packed.js'
import { readParquet } from './formats/parquet.js'
import type { OpenOptions } from './formats/progress.js'
import { type FoundRow, groupOf, type ReadRow, type ReadRows, type Row, textOf } from './formats/row.js'
import { changed, createRowStore, type RowStore } from './formats/row-store.js'
import type { RowsSpec } from './spec.js'
import { collatorOf, type Inspected, openTextTask, type TextTask } from './text/task.js'
import { openTokenizer } from './text/tokenizer.js'

/** Groups that a column of a split may name. */
const MAX_GROUPS = 1_000_000

export type TextTaskSpec = Exclude<TaskSpec, { kind: 'image-classification' }>

/**
 * A table (JSONL, CSV, Parquet) as a dataset of text. Every row is read and checked once, with nothing held but where it
 * lies, 32 bits of its content and its label; it is tokenised when its turn comes. A causal language model's rows are
 * packed into whole sequences instead, see packed.ts. Throws `data/bad-row`, `data/no-column`, `data/empty`, ...
 */
export async function readTable(
  spec: RowsSpec,
  task: TextTaskSpec,
  model: ModelInputs,
  options: OpenOptions = {}
): Promise<DatasetParts> {
  const inputs = tokenInputsOf(model)
  const tokenizer = await openTokenizer(spec.tokenizer)
  const { sequenceLength: length, seed } = spec
  if (task.kind === 'causal-lm') {
    const table = await indexTables(spec, plainText(spec), options)
    const packed = await orClosed(table, () =>
      packRows({ ...table, column: textColumn(spec), tokenizer, length, options })
    )
    checkSequences(packed, spec.path, length)
    const summary = { ...table.summary, training: packed.training.length, heldOut: packed.heldOut.length }
    return { ...packed, seed, collate: causalCollator(inputs, length), summary }
  }
  const reading = await openTextTask(spec, task, tokenizer)
  const labels = task.kind === 'sequence-classification' ? task.labels : undefined
  const table = await indexTables(spec, { ...reading, ...(labels && { labels }) }, options)
  return {
    training: encoded(table.training, reading),
    heldOut: encoded(table.heldOut, reading),
    seed,
    collate: collatorOf(reading, inputs, tokenizer, length),
    summary: table.summary,
    close: table.close
  }
}

const textColumn = ({ columns }: RowsSpec): string => columns?.text ?? 'text'

const plainText = (spec: RowsSpec): Reading => ({
  columns: [textColumn(spec)],
  inspect: (row) => ({ content: textOf(row, textColumn(spec)) })
})

const encoded = ({ length, at }: ChosenRows, { encode }: TextTask): Examples => ({
  length,
  at: (index) => encode(at(index))
})

/** What is done with a row when it is first met. */
interface Reading extends Pick<TextTask, 'columns' | 'inspect'> {
  readonly labels?: readonly string[]
}

/** Rows of a table by their place among those chosen. */
export interface ChosenRows {
  readonly length: number
  at(index: number): Row
}

interface Tables {
  readonly training: ChosenRows
  readonly heldOut: ChosenRows
  readonly summary: DataSummary
  readonly close: () => void
}

async function indexTables(spec: RowsSpec, reading: Reading, options: OpenOptions): Promise<Tables> {
  const main = await indexTable(spec.path, spec, reading, options)
  return orClosed(main, async () => {
    const test = spec.testPath === undefined ? main : await indexTable(spec.testPath, spec, reading, options)
    const { training, heldOut, summary } = chooseHeldOut(main, test, { ...spec, skipped: main.skipped })
    return {
      training: pick(main, training),
      heldOut: pick(test, heldOut),
      summary,
      close() {
        main.close()
        if (test !== main) test.close()
      }
    }
  })
}

/** Reads a row again; what it says must be what it said. */
const pick = (table: IndexedTable, places: Uint32Array): ChosenRows => ({
  length: places.length,
  at(index) {
    const place = places[index]!
    const row = table.rows.at(place)
    if (table.keyOf(row) !== table.key(place)) throw changed(row)
    return row
  }
})

interface IndexedTable extends Collection {
  readonly rows: RowStore
  keyOf(row: Row): number
  readonly skipped: Pick<DataSummary, 'skipped' | 'firstSkipped'>
  readonly close: () => void
}

const readerOf = (spec: RowsSpec): ReadRows =>
  spec.kind === 'jsonl' ? readJsonl : spec.kind === 'csv' ? readCsv(spec.delimiter ?? ',') : readParquet

async function indexTable(path: string, spec: RowsSpec, reading: Reading, options: OpenOptions): Promise<IndexedTable> {
  const { size: totalBytes } = await statFile(path)
  const groupColumn = spec.split !== undefined && 'column' in spec.split ? spec.split.column : undefined
  const columns = [...new Set([...reading.columns, ...(groupColumn === undefined ? [] : [groupColumn])])]
  const index = createIndex(path, { columns, groupColumn, reading, testSeed: spec.testSeed ?? 'test' })
  const skip = createSkipper(spec.badRows === 'skip')
  const { signal, onProgress } = options
  return orClosed(index, async () => {
    for await (const piece of readerOf(spec)(path, { columns, ...(signal && { signal }) })) {
      for (const row of piece.rows) skip(row, index.add)
      onProgress?.({ file: path, bytes: piece.bytes, totalBytes, rows: index.size() })
    }
    if (index.size() === 0) throw emptyFile(path)
    return { ...index.collection(), skipped: skip.counted() }
  })
}

/** Takes rows in, or counts those that are broken where the configuration allows it. */
function createSkipper(allowed: boolean) {
  let skipped = 0
  let firstSkipped: string | undefined
  const take = (row: ReadRow, add: (row: FoundRow) => void): void => {
    try {
      if (row instanceof PeertuneError) throw row
      add(row)
    } catch (error) {
      if (!allowed || !isPeertuneError(error) || error.code !== 'data/bad-row') throw error
      skipped += 1
      firstSkipped ??= error.message
    }
  }
  return Object.assign(take, { counted: () => ({ skipped, ...(firstSkipped === undefined ? {} : { firstSkipped }) }) })
}

interface IndexOptions {
  readonly columns: readonly string[]
  readonly groupColumn: string | undefined
  readonly reading: Reading
  readonly testSeed: string
}

function createIndex(path: string, { columns, groupColumn, reading, testSeed }: IndexOptions) {
  const rows = createRowStore(path, columns)
  const keys = createNumberList(Uint32Array)
  const labels = createNumberList(Uint32Array)
  const groups = createNumberList(Uint32Array)
  const groupNumbers = new Map<string, number>()
  const key = ({ content, label }: Inspected) => contentKey(testSeed, `${content}\0${label ?? ''}`)
  return {
    size: () => rows.size,
    close: rows.close,
    add(row: FoundRow): void {
      const inspected = reading.inspect(row)
      if (groupColumn !== undefined) groups.push(numberOfGroup(groupNumbers, groupOf(row, groupColumn), path))
      rows.add(row)
      keys.push(key(inspected))
      labels.push(inspected.label ?? 0)
    },
    collection: () => ({
      size: rows.size,
      key: keys.at,
      ...(reading.labels && { labels: labels.at, labelNames: reading.labels }),
      ...(groupColumn === undefined ? {} : { groups: { of: groups.at, names: [...groupNumbers.keys()] } }),
      rows,
      keyOf: (row: Row) => key(reading.inspect(row)),
      close: rows.close
    })
  }
}

function numberOfGroup(numbers: Map<string, number>, name: string, file: string): number {
  const known = numbers.get(name)
  if (known !== undefined) return known
  if (numbers.size === MAX_GROUPS)
    throw new PeertuneError('data/bad-split', `${file} has more than ${MAX_GROUPS} groups to split by`, {
      facts: { file, expected: MAX_GROUPS },
      hint: 'split by a column of fewer different values'
    })
  numbers.set(name, numbers.size)
  return numbers.size - 1
}
