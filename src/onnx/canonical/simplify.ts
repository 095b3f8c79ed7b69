import { PeertuneError } from '../../base/errors.js'
import { floatConstant, intConstant } from '../graph/constant.js'
import type { Graph, Initializer, Node } from '../graph/graph.js'
import { pruneGraph } from '../graph/rewrite.js'

/**
 * Constant nodes become initializers; Identity and Dropout nodes vanish. A base model never drops anything: frozen as it
 * is, noise in it would only blur the gradient of what trains.
 */
export function foldConstantsAndAliases(graph: Graph): Graph {
  const initializers = new Map(graph.initializers)
  const alias = new Map<string, string>()
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const read = new Set([...outputs, ...graph.nodes.flatMap(({ inputs }) => inputs)])
  const nodes: Node[] = []
  for (const original of graph.nodes) {
    const inputs = original.inputs.map((input) => alias.get(input) ?? input)
    const node = isUnmaskedDropout(original, read) ? identityOf(original) : original
    const output = node.outputs[0] as string
    if (node.op === 'Constant' && node.domain === '') initializers.set(output, constantOf(node, output))
    else if (node.op === 'Identity' && node.domain === '' && !outputs.has(output))
      alias.set(output, inputs[0] as string)
    else nodes.push({ ...node, inputs: inputs.slice(0, node.inputs.length) })
  }
  const values = new Map(graph.values)
  for (const { name, type, shape } of initializers.values()) values.set(name, { name, type, shape })
  return pruneGraph({ ...graph, nodes, initializers, values })
}

const isUnmaskedDropout = ({ op, domain, outputs: [, mask = ''] }: Node, read: ReadonlySet<string>): boolean =>
  op === 'Dropout' && domain === '' && (mask === '' || !read.has(mask))

const identityOf = (node: Node): Node => ({
  ...node,
  op: 'Identity',
  inputs: node.inputs.slice(0, 1),
  outputs: node.outputs.slice(0, 1),
  attributes: {}
})

function constantOf(node: Node, name: string): Initializer {
  const [[key, attribute] = ['none', undefined]] = Object.entries(node.attributes)
  if (attribute?.type === 'tensor') return { ...attribute.value, name }
  if (attribute?.type === 'int' || attribute?.type === 'ints') return intConstant(name, attribute.value)
  if (attribute?.type === 'float' || attribute?.type === 'floats') return floatConstant(name, attribute.value)
  throw new PeertuneError('onnx/unsupported-feature', `constant ${name} holds ${key}`, {
    facts: { name, attribute: key }
  })
}
