import { type Shape, shapeSize } from '../../tensor/schema.js'
import { bytesOfElements } from './element-type.js'
import type { Graph, Node } from './graph.js'

/** Ops whose output may lie in their input's memory. */
const IN_PLACE: ReadonlySet<string> = new Set(['Flatten', 'Identity', 'Reshape', 'Squeeze', 'Unsqueeze'])

/**
 * The order in which onnxruntime runs a graph sequentially: depth first from the last nodes up, inputs before the node
 * (Graph::ReverseDFSFrom over the leaf nodes).
 */
export function executionOrder({ nodes }: Pick<Graph, 'nodes'>): readonly Node[] {
  const producer = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  const read = new Set(nodes.flatMap((node) => node.inputs))
  const leaves = nodes.filter((node) => !node.outputs.some((output) => read.has(output)))
  const place = new Map(nodes.map((node, index) => [node, index]))
  const seen = new Set<Node>()
  const order: Node[] = []
  const stack: { readonly node: Node; readonly leaving: boolean }[] = []
  for (const node of leaves) stack.push({ node, leaving: false })
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { node, leaving } = top
    if (leaving) order.push(node)
    if (leaving || seen.has(node)) continue
    seen.add(node)
    stack.push({ node, leaving: true })
    const before = new Set(node.inputs.flatMap((input) => producer.get(input) ?? []))
    const sorted = [...before].sort((a, b) => (place.get(a) ?? 0) - (place.get(b) ?? 0))
    for (const input of sorted) if (!seen.has(input)) stack.push({ node: input, leaving: false })
  }
  return order
}

/** Most bytes of intermediate values that are in memory at one time, weights and inputs apart. */
export function peakLiveBytes(graph: Graph, order: readonly Node[] = executionOrder(graph)): number {
  const owner = bufferOwners(order)
  const lastUse = new Map<string, number>()
  for (const [at, node] of order.entries())
    for (const name of [...node.inputs, ...node.outputs]) lastUse.set(owner.get(name) ?? name, at)
  for (const { name } of graph.outputs) lastUse.set(owner.get(name) ?? name, order.length)
  const dying = new Map<number, string[]>()
  for (const [name, at] of lastUse) dying.set(at, [...(dying.get(at) ?? []), name])

  let live = 0
  let peak = 0
  const alive = new Set<string>()
  for (const [at, node] of order.entries()) {
    for (const output of node.outputs) {
      if (output === '' || owner.get(output) !== output || alive.has(output)) continue
      alive.add(output)
      live += bytesOf(graph, output)
    }
    peak = Math.max(peak, live)
    for (const name of dying.get(at) ?? []) if (alive.delete(name)) live -= bytesOf(graph, name)
  }
  return peak
}

/** Which value's memory each value lies in. */
function bufferOwners(order: readonly Node[]): ReadonlyMap<string, string> {
  const owner = new Map<string, string>()
  for (const { op, domain, inputs, outputs } of order)
    for (const [index, output] of outputs.entries()) {
      const source = index === 0 && domain === '' && IN_PLACE.has(op) ? inputs[0] : undefined
      owner.set(output, source === undefined ? output : (owner.get(source) ?? source))
    }
  return owner
}

export function bytesOf({ values }: Pick<Graph, 'values'>, name: string): number {
  const info = values.get(name)
  return info === undefined ? 0 : bytesOfElements(info.type, shapeSize(info.shape as Shape))
}
