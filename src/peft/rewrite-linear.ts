import type { Graph, Node, ValueInfo } from '../onnx/graph.js'
import { staticShape } from '../onnx/rewrite.js'

/** Nodes that take the place of one linear node, and the types of the values they add or change. */
export interface LinearReplacement {
  readonly nodes: readonly Node[]
  readonly values?: readonly ValueInfo[]
}

/**
 * Visits every use of a linear layer's weight in a canonical graph (`Gemm` with that weight as second input) and
 * declares `inputs` as graph inputs; a weight that thereby becomes an input stops being a constant.
 */
export function rewriteLinears(
  graph: Graph,
  inputs: readonly ValueInfo[],
  replace: (gemm: Node, weightName: string) => LinearReplacement | undefined
): Graph {
  const values = new Map(graph.values)
  for (const input of inputs) values.set(input.name, input)
  const nodes = graph.nodes.flatMap((node) => {
    const weight = node.op === 'Gemm' ? node.inputs[1] : undefined
    const replacement = weight === undefined ? undefined : replace(node, weight)
    for (const value of replacement?.values ?? []) values.set(value.name, value)
    return replacement?.nodes ?? [node]
  })
  const initializers = new Map(graph.initializers)
  for (const { name } of inputs) initializers.delete(name)
  const outputs = graph.outputs.map((output) => values.get(output.name) ?? output)
  return { ...graph, inputs: [...graph.inputs, ...inputs], outputs, nodes, initializers, values }
}

/** Rows of a canonical linear's matrix input. */
export const rowsOf = (graph: Graph, gemm: Node): number =>
  staticShape(graph.values.get(gemm.outputs[0] as string), gemm.name)[0] as number

export const float32Value = (name: string, shape: readonly number[]): ValueInfo => ({ name, type: 'float32', shape })
