import type { Graph, Initializer } from '../onnx/graph.js'
import type { Weight } from '../onnx/weight.js'
import type { ParameterSchema } from '../tensor/schema.js'

/** What a method needs to know of the base model, whatever the shape of the batch. */
export interface BaseModel {
  /** By Hugging Face parameter name, in graph order. */
  readonly weights: ReadonlyMap<string, Weight>
  /** Values of a float32 weight in the graph's own layout. */
  read(initializer: Initializer): Float32Array
}

/** A part of the trainable parameters: their names, their start, and how the graph uses them. */
export interface Adapter {
  readonly tensors: readonly AdapterTensor[]
  /** Canonical graph (see onnx/canonicalise.ts) -> one with an input for each tensor, under the tensor's name. */
  rewrite(graph: Graph): Graph
}

export interface AdapterTensor {
  /** As PEFT saves it, without `base_model.model.`: `<module>.lora_A.weight`. */
  readonly name: string
  readonly shape: readonly number[]
  readonly initial: Float32Array
}

/** A PEFT method applied to one base model. */
export interface PeftMethod {
  readonly schema: ParameterSchema
  /** float32[schema.size], the same bits on every peer. */
  readonly initial: Float32Array
  /** Puts the parameters into a canonical graph: its inputs are then the batch's and one for every schema entry. */
  rewrite(graph: Graph): Graph
}
