import { type Batch, type BatchTensor, countedLabels, IGNORED_LABEL } from '../../data/batches/batch.js'

/** Steps in which the number of labelled rows is rounded up: each is a graph of its own, and a session. */
const ROW_BUCKETS = 8
/** Share of rows up to which picking them out costs less than the logits that it saves. */
const WORTHWHILE_SHARE = 0.75

export interface LabelRows {
  /** int64[count], IGNORED_LABEL behind the last. */
  readonly labels: BatchTensor
  /** int64[count], the row of the logits (seen as a matrix) that each label belongs to. */
  readonly rows: BatchTensor
}

/**
 * The labels that count and where they are, where a sequence has one per position and few of them count: an answer
 * behind its question, a padded batch. Undefined where the whole is as good.
 */
export function labelRowsOf(batch: Pick<Batch, 'labels'>): LabelRows | undefined {
  const { shape, data } = batch.labels
  if (shape.length < 2 || data instanceof Float32Array) return undefined
  const bucket = Math.ceil(data.length / ROW_BUCKETS)
  const count = Math.max(1, Math.ceil(countedLabels(batch) / bucket)) * bucket
  if (count > WORTHWHILE_SHARE * data.length) return undefined
  const labels = new Int32Array(count).fill(IGNORED_LABEL)
  const rows = new Int32Array(count)
  let at = 0
  for (const [row, label] of data.entries()) {
    if (label === IGNORED_LABEL) continue
    labels[at] = label
    rows[at++] = row
  }
  return {
    labels: { type: 'int64', shape: [count], data: labels },
    rows: { type: 'int64', shape: [count], data: rows }
  }
}
