import type { Shape } from '../../tensor/schema.js'

/**
 * One graph input. int64 graph inputs (token ids, masks) are held as Int32Array, which is what crosses the pipe;
 * the session widens them.
 */
export type BatchTensor =
  | { readonly type: 'int64'; readonly shape: Shape; readonly data: Int32Array }
  | { readonly type: 'float32'; readonly shape: Shape; readonly data: Float32Array }

/** The label that the loss skips, as in PyTorch. */
export const IGNORED_LABEL = -100

export interface Batch {
  /** By graph input name: `input_ids` int64[batch, seq], `pixel_values` float32[batch, channel, height, width], ... */
  readonly inputs: Readonly<Record<string, BatchTensor>>
  /**
   * Aligned with the logits: classification [batch]; token classification [batch, seq]; a language model [batch, seq]
   * where labels[b, t] is the token at t + 1 and the last column is IGNORED_LABEL; regression float32[batch], where NaN
   * is what the loss skips.
   */
  readonly labels: { readonly shape: Shape; readonly data: Int32Array | Float32Array }
}

/** Labels that the loss does not skip. */
export function countedLabels({ labels: { data } }: Pick<Batch, 'labels'>): number {
  let count = 0
  if (data instanceof Float32Array) for (const label of data) count += Number.isNaN(label) ? 0 : 1
  else for (const label of data) count += label === IGNORED_LABEL ? 0 : 1
  return count
}

/** A peer's private examples, ready to train on and to evaluate on. */
export interface Dataset {
  /** Training examples; the weight of this peer in the federation's mean. */
  readonly size: number
  /** Batches for ever, every epoch in a new seeded order, always of `batchSize`. Position and order are in `state()`. */
  batches(batchSize: number, state?: BatchCursor): BatchStream
  /** The held-out examples once, the last batch padded with rows of ignored labels up to `batchSize`. */
  evaluation(batchSize: number): Iterable<Batch>
  /** What there is, for people; absent where nobody counted. */
  readonly summary?: DataSummary
  /** Lets go of the files that examples are read from when their turn comes. */
  close?(): void
}

/** What a data source holds: counts alone, never content. */
export interface DataSummary {
  readonly kind: string
  readonly training: number
  readonly heldOut: number
  /** Rows left out because they were broken and the configuration allows it. */
  readonly skipped: number
  /** Why the first of them was. */
  readonly firstSkipped?: string
  /** Training and held-out examples by label, in the task's order; absent where there are no labels to count. */
  readonly labels?: readonly { readonly name: string; readonly training: number; readonly heldOut: number }[]
  /** What each peer of a split holds. */
  readonly split?: SplitSummary
}

export interface SplitSummary {
  /** e.g. `dirichlet (alpha 0.3)`. */
  readonly by: string
  /** Which of the peers this is; absent: it holds everything. */
  readonly peer?: number
  /** Names of the table's columns: labels or groups; none where examples are of one kind. */
  readonly columns: readonly string[]
  /** One row a peer, one count a column and the sum behind them. */
  readonly peers: readonly (readonly number[])[]
}

export interface BatchStream {
  next(): Batch
  /** Where the stream stands, fit for a checkpoint; `batches(size, cursor)` continues from there. */
  cursor(): BatchCursor
}

/** The order of an epoch is a function of the seed and the epoch alone, so two numbers say it all. */
export interface BatchCursor {
  readonly epoch: number
  /** Examples of this epoch already handed out. */
  readonly position: number
}
