import { printable } from '../../base/text.js'
import type { DataSummary, SplitSummary } from '../batches/batch.js'

/** Peers of a split that are printed one by one. */
const MAX_PRINTED_PEERS = 64
/** Characters of a label or group that a column is headed with. */
const MAX_NAME = 16

/** What a data source holds, as lines for a terminal: counts, labels, and who holds what where it is shared out. */
export function summaryLines(summary: DataSummary): string[] {
  const { kind, training, heldOut, skipped, firstSkipped, labels = [], split } = summary
  return [
    `${kind}: ${training} training examples, ${heldOut} held out`,
    ...(skipped === 0 ? [] : [`${skipped} left out because they are broken, the first: ${firstSkipped ?? ''}`]),
    ...(labels.length === 0 ? [] : ['', ...table(labelTable(labels))]),
    ...(split === undefined ? [] : ['', ...splitLines(split)])
  ]
}

type Cells = readonly (string | number)[]

/** The label's number is its place in the task's list: the same on every peer and in every life of a node. */
const labelTable = (labels: NonNullable<DataSummary['labels']>): Cells[] => [
  ['', 'label', 'training', 'held out'],
  ...labels.map(({ name, training, heldOut }, i) => [i, short(name), training, heldOut])
]

function splitLines({ by, peer, columns, peers }: SplitSummary): string[] {
  const who = peer === undefined ? 'this peer holds everything' : `this is peer ${peer}`
  const more = peers.length - MAX_PRINTED_PEERS
  const rows = peers
    .slice(0, MAX_PRINTED_PEERS)
    .map((counts, i) => [`${i === peer ? '* ' : ''}${i}`, ...counts.map((count) => (count === 0 ? '.' : count))])
  return [
    `split by ${by} among ${peers.length} peers; ${who}`,
    ...table([['peer', ...columns.map(short), 'all'], ...rows]),
    ...(more > 0 ? [`and ${more} more`] : [])
  ]
}

const short = (name: string): string => {
  const clean = printable(name)
  return clean.length > MAX_NAME ? `${clean.slice(0, MAX_NAME - 1)}…` : clean
}

/** Columns as wide as their widest cell, numbers to the right. */
function table(rows: readonly Cells[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => String(row[column] ?? '').length)))
  return rows.map((row) => row.map((cell, column) => String(cell).padStart(widths[column] ?? 0)).join('  '))
}
