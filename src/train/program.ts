import type { Graph } from '../onnx/graph.js'
import type { Shape } from '../tensor/schema.js'

/** `train`: loss and gradients; `evaluate`: summed loss, labels that count, right answers. */
export type ProgramKind = 'train' | 'evaluate'

/** Shape of every batch tensor by graph input name, `labels` among them. */
export type BatchShapes = Readonly<Record<string, Shape>>

/** A graph of one batch shape, ready to run. Other outputs are named as in autodiff/loss.ts. */
export interface Program {
  readonly graph: Graph
  /** Folder of the files that the graph's external initializers name. */
  readonly externalDir?: string
  /** Graph inputs that take the trainable parameters, in schema order. */
  readonly parameters: readonly string[]
  /** Graph outputs with their gradients, in schema order; empty for `evaluate`. */
  readonly gradients: readonly string[]
}

/**
 * Specialises the model to one batch shape, puts the adapter in, adds the loss and, for `train`, the backward pass.
 * Called once for every kind and shape that turns up. Throws errors of the rooms it goes through.
 */
export type BuildProgram = (kind: ProgramKind, shapes: BatchShapes) => Promise<Program>
