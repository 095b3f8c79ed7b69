import type { Graph } from '../../onnx/graph/graph.js'
import type { ParameterSchema, Shape } from '../../tensor/schema.js'
import type { MergedWeight, MergeTarget } from './merge-target.js'

export type { BaseModel } from './base-model.js'

/** A part of the trainable parameters: their names, their start, and how the graph uses them. */
export interface Adapter {
  readonly tensors: readonly AdapterTensor[]
  /** Tensors that are the same on every peer and never change: made from the seed, not trained, not sent. */
  readonly frozen?: readonly AdapterTensor[]
  /** Paths of the linear layers whose output it changes; see `refuseTwice` for who else may. */
  readonly wraps?: readonly string[]
  /** It adds something to the layers' output, whatever else does so. */
  readonly adds?: boolean
  /** It never leaves the peer that trains it. */
  readonly isPrivate?: boolean
  /** Positions that stand in front of every sequence; the graph to rewrite has room for them. */
  readonly virtualTokens?: number
  /** Values of the rewritten graph that the backward pass takes for constants. */
  readonly detached?: readonly string[]
  /** Canonical graph (see onnx/canonical/canonicalise.ts) -> one with an input for each tensor, under the tensor's name. */
  rewrite(graph: Graph): Graph
  /** What PEFT loads for the same effect, where that is not the tensors and the frozen ones as they are. */
  exported?(values: ReadonlyMap<string, Float32Array>): NamedTensor[]
  /** Puts the trained values into the base's weights, where the method allows that. */
  merge?(target: MergeTarget, values: ReadonlyMap<string, Float32Array>): void
}

export interface AdapterTensor {
  /** As PEFT saves it, without `base_model.model.`: `<module>.lora_A.weight`. */
  readonly name: string
  readonly shape: readonly number[]
  readonly initial: Float32Array
}

export interface NamedTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Float32Array
}

export type InputShapes = Readonly<Record<string, Shape>>

/** A PEFT method, or several at once, applied to one base model. */
export interface PeftMethod {
  readonly schema: ParameterSchema
  /** float32[schema.size], the same bits on every peer. */
  readonly initial: Float32Array
  readonly frozen: readonly NamedTensor[]
  readonly detached: readonly string[]
  /** Positions that stand in front of every sequence. */
  readonly virtualTokens: number
  /** Shapes to specialise the base model to, for a batch of these. */
  graphInputs(batch: InputShapes): InputShapes
  /**
   * Puts the parameters into a canonical graph: its inputs are then the batch's and one for every schema entry.
   * `labels`: shape of the labels, where there are any.
   */
  rewrite(graph: Graph, labels?: Shape): Graph
  /** All tensors of an adapter file, frozen ones among them. */
  exported(parameters: Float32Array): NamedTensor[]
  /**
   * Weights of the base with these parameters merged in, by name, in the graph's own layout; undefined where a method
   * is more than other weights.
   */
  merge(parameters: Float32Array): ReadonlyMap<string, MergedWeight> | undefined
}
