import type { Graph, Initializer } from '../onnx/graph.js'
import type { Weight } from '../onnx/weight.js'

/** What a method needs to know of the base model, whatever the shape of the batch. */
export interface BaseModel {
  /** By Hugging Face parameter name, in graph order. */
  readonly weights: ReadonlyMap<string, Weight>
  /** The model before it is specialised to a shape of batch. */
  readonly graph: Graph
  /** Values of a float32 weight in the graph's own layout. */
  read(initializer: Initializer): Float32Array
}
