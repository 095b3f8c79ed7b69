import type { Graph, Initializer } from '../../onnx/graph/graph.js'
import type { Weight } from '../../onnx/graph/weight.js'

/** By module path: indices of out * in + in, ascending. */
export type SparseMasks = ReadonlyMap<string, Uint32Array>

/** What a method needs to know of the base model, whatever the shape of the batch. */
export interface BaseModel {
  /** By Hugging Face parameter name, in graph order. */
  readonly weights: ReadonlyMap<string, Weight>
  /** The model before it is specialised to a shape of batch. */
  readonly graph: Graph
  /** Values of a float32 weight in the graph's own layout. */
  read(initializer: Initializer): Float32Array
  /** The mask file of this SHA-256, see mask-file.ts. Throws `config/no-mask`; absent: there are none. */
  masks?(sha256: string): SparseMasks
}
