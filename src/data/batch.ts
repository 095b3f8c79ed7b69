import type { Shape } from '../tensor/schema.js'

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
   * Aligned with the logits: classification [batch]; causal LM [batch, seq] where labels[b, t] is the token at t + 1
   * and the last column is IGNORED_LABEL.
   */
  readonly labels: { readonly shape: Shape; readonly data: Int32Array }
}

/** A peer's private examples, ready to train on and to evaluate on. */
export interface Dataset {
  /** Training examples; the weight of this peer in the federation's mean. */
  readonly size: number
  /** Batches for ever, every epoch in a new seeded order, always of `batchSize`. Position and order are in `state()`. */
  batches(batchSize: number, state?: BatchCursor): BatchStream
  /** The held-out examples once, the last batch padded with rows of IGNORED_LABEL up to `batchSize`. */
  evaluation(batchSize: number): Iterable<Batch>
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
