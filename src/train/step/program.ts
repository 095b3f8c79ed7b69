import type { Graph } from '../../onnx/graph/graph.js'
import type { Shape } from '../../tensor/schema.js'

/** `train`: loss and gradients; `evaluate`: summed loss, labels that count, right answers. */
export type ProgramKind = 'train' | 'evaluate'

/** Shape of every batch tensor by graph input name, `labels` among them, and LABEL_ROWS where labels are picked out. */
export type BatchShapes = Readonly<Record<string, Shape>>

/**
 * Graph input int64[count] that a language model's program has where few labels count: which rows of the logits the
 * labels, then an input int64[count] too, belong to.
 */
export const LABEL_ROWS = 'label_rows'

/** A graph of one batch shape, ready to run. Other outputs are named as in autodiff/loss.ts. */
export interface Program {
  readonly graph: Graph
  /** Folder of the files that the graph's external initializers name. */
  readonly externalDir?: string
  /** Whether its weights are worth a copy in the layout of the runtime's kernels; see SessionOptions. */
  readonly prepack?: boolean
  /** Graph inputs that take the trainable parameters, in schema order. */
  readonly parameters: readonly string[]
  /** Graph outputs with their gradients, in schema order; empty for `evaluate`. */
  readonly gradients: readonly string[]
  /** What lies below the lowest adapter, cut off: its outputs are inputs of `graph`. */
  readonly frozen?: { readonly graph: Graph; readonly values: readonly string[] }
}

/**
 * Specialises the model to one batch shape, puts the adapter in, adds the loss and, for `train`, the backward pass.
 * Called once for every kind and shape that turns up. Throws errors of the rooms it goes through.
 */
export type BuildProgram = (kind: ProgramKind, shapes: BatchShapes) => Promise<Program>
