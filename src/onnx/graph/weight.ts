import type { Graph, Initializer } from './graph.js'

/** One use of a floating-point weight: what the base model calls a parameter. */
export interface Weight {
  /** Hugging Face parameter name, `<module>.<slot>`; the name of the value in the graph. */
  readonly name: string
  readonly module: string
  /** `weight`, `bias`, or the rest of a name such as `cls_token`. */
  readonly slot: string
  /** The graph holds the transpose of what Hugging Face stores: an anonymous [in, out] copy of a Linear weight. */
  readonly transposed: boolean
  readonly initializer: Initializer
  /** Present on the weight of a linear layer. */
  readonly linear?: {
    readonly inFeatures: number
    readonly outFeatures: number
    /** The tensor is [out, in]; otherwise [in, out]. */
    readonly outFirst: boolean
  }
}

export interface NamedWeights {
  readonly graph: Graph
  readonly weights: ReadonlyMap<string, Weight>
}
