import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../src/onnx/graph/graph.js'

export interface GraphParts {
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  readonly nodes: readonly Node[]
  readonly initializers?: readonly Initializer[]
  /** Shapes of values that are neither inputs nor outputs. */
  readonly inner?: readonly ValueInfo[]
}

export const float32 = (name: string, ...shape: number[]): ValueInfo => ({ name, type: 'float32', shape })
export const int64 = (name: string, ...shape: number[]): ValueInfo => ({ name, type: 'int64', shape })

/** `node('Gemm', ['x', 'w'], 'y', { transB: ... })` */
export const node = (
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, Attribute>> = {},
  module?: string
): Node => ({
  op,
  domain: '',
  name: `${op}:${output}`,
  inputs,
  outputs: [output],
  attributes,
  ...(module && { module })
})

export function graph({ inputs, outputs, nodes, initializers = [], inner = [] }: GraphParts): Graph {
  return {
    name: 'test',
    opsets: { '': 20 },
    inputs,
    outputs,
    nodes,
    initializers: new Map(initializers.map((initializer) => [initializer.name, initializer])),
    values: new Map([...inputs, ...inner, ...outputs, ...initializers].map((value) => [value.name, value]))
  }
}
