import type { Shape } from '../../tensor/schema.js'

/** ONNX element types this project meets. Names follow the ONNX specification in lower case. */
export type ElementType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'int64'
  | 'int32'
  | 'int16'
  | 'int8'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'int4'
  | 'uint4'
  | 'bool'
  | 'string'

/** A dimension is a number, or a symbolic name before a graph is specialised to concrete shapes. */
export type Dim = number | string

export interface ValueInfo {
  readonly name: string
  readonly type: ElementType
  readonly shape: readonly Dim[]
}

/** A constant tensor: bytes in memory (little endian, row major) or a region of a file beside the model. */
export interface Initializer {
  readonly name: string
  readonly type: ElementType
  readonly shape: Shape
  readonly data:
    | { readonly kind: 'inline'; readonly bytes: Uint8Array }
    | { readonly kind: 'external'; readonly location: string; readonly offset: number; readonly length: number }
}

export type Attribute =
  | { readonly type: 'int'; readonly value: number }
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'ints'; readonly value: readonly number[] }
  | { readonly type: 'floats'; readonly value: readonly number[] }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'tensor'; readonly value: Initializer }

export interface Node {
  readonly op: string
  /** `''` is the standard ONNX domain; contrib ops say `com.microsoft`. */
  readonly domain: string
  readonly name: string
  /** `''` marks an omitted optional input. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
  /** Hugging Face module path this node was exported from, where the exporter left one. */
  readonly module?: string
}

/** An immutable ONNX graph in topological order. Rewrites return a new one. */
export interface Graph {
  readonly name: string
  /** Opset version by domain; `''` is always present. */
  readonly opsets: Readonly<Record<string, number>>
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  readonly nodes: readonly Node[]
  readonly initializers: ReadonlyMap<string, Initializer>
  /** Type and shape of every known value: inputs, outputs, initializers and, once specialised, all intermediates. */
  readonly values: ReadonlyMap<string, ValueInfo>
}
