import type { Graph, Node } from '../../onnx/graph/graph.js'
import type { Weight } from '../../onnx/graph/weight.js'

/** What a weight is read through on its way into a product. */
const VIEWS: ReadonlySet<string> = new Set(['Transpose', 'DequantizeLinear', 'Slice', 'Cast', 'Identity'])

/**
 * Names of the weights of the linear layers that make the outputs: those with no other linear layer behind them. A head
 * of several layers (RoBERTa's `dense` and `out_proj`) has its classes in these alone.
 */
export function logitLayers(graph: Graph, weights: ReadonlyMap<string, Weight>): ReadonlySet<string> {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  const weightBehind = (value: string): string | undefined => {
    if (weights.get(value)?.linear !== undefined) return value
    const producer = producers.get(value)
    return producer !== undefined && VIEWS.has(producer.op) ? weightBehind(producer.inputs[0] as string) : undefined
  }
  const found = new Set<string>()
  const seen = new Set<Node>()
  const stack = graph.outputs.map(({ name }) => name)
  for (let value = stack.pop(); value !== undefined; value = stack.pop()) {
    const node = producers.get(value)
    if (node === undefined || seen.has(node)) continue
    seen.add(node)
    const own = node.op === 'Gather' ? [] : node.inputs.flatMap((input) => weightBehind(input) ?? [])
    for (const weight of own) found.add(weight)
    if (own.length === 0) stack.push(...node.inputs)
  }
  return found
}
