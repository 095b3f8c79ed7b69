import { PeertuneError } from '../base/errors.js'
import { floatConstant, intConstant } from './constant.js'
import type { Graph, Initializer, Node } from './graph.js'
import { pruneGraph } from './rewrite.js'

/** First opset whose reductions, squeezes and softmax have today's meaning. */
const OLDEST_OPSET = 13
/** Every canonical graph is at least here: reductions take their axes as an input, Gelu is an operator. */
const CANONICAL_OPSET = 20

/** Constant nodes become initializers and Identity nodes vanish. */
export function foldConstantsAndAliases(graph: Graph): Graph {
  const initializers = new Map(graph.initializers)
  const alias = new Map<string, string>()
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const nodes: Node[] = []
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((input) => alias.get(input) ?? input)
    const output = node.outputs[0] as string
    if (node.op === 'Constant' && node.domain === '') initializers.set(output, constantOf(node, output))
    else if (node.op === 'Identity' && node.domain === '' && !outputs.has(output))
      alias.set(output, inputs[0] as string)
    else nodes.push({ ...node, inputs })
  }
  const values = new Map(graph.values)
  for (const { name, type, shape } of initializers.values()) values.set(name, { name, type, shape })
  return pruneGraph({ ...graph, nodes, initializers, values })
}

function constantOf(node: Node, name: string): Initializer {
  const [[key, attribute] = ['none', undefined]] = Object.entries(node.attributes)
  if (attribute?.type === 'tensor') return { ...attribute.value, name }
  if (attribute?.type === 'int' || attribute?.type === 'ints') return intConstant(name, attribute.value)
  if (attribute?.type === 'float' || attribute?.type === 'floats') return floatConstant(name, attribute.value)
  throw new PeertuneError('onnx/unsupported-feature', `constant ${name} holds ${key}`, {
    facts: { name, attribute: key }
  })
}

/** Reductions whose axes moved from an attribute to the second input in opset 18. */
const REDUCTIONS = new Set(
  ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((name) => `Reduce${name}`)
)

/** Lifts a graph of opset 13 to 19 to opset 20; newer ones stay. Throws `onnx/unsupported-opset`. */
export function upgradeOpset(graph: Graph): Graph {
  const opset = graph.opsets[''] ?? 0
  if (opset < OLDEST_OPSET)
    throw new PeertuneError('onnx/unsupported-opset', `the model is of opset ${opset}`, {
      facts: { opset, oldest: OLDEST_OPSET },
      hint: `export it again with opset ${CANONICAL_OPSET}`
    })
  const initializers = new Map(graph.initializers)
  const nodes = opset >= 18 ? graph.nodes : graph.nodes.map((node) => upgradeNode(node, initializers))
  return { ...graph, opsets: { ...graph.opsets, '': Math.max(opset, CANONICAL_OPSET) }, nodes, initializers }
}

function upgradeNode(node: Node, initializers: Map<string, Initializer>): Node {
  const { axes, ...attributes } = node.attributes
  if (REDUCTIONS.has(node.op) && axes?.type === 'ints') {
    const name = `${node.outputs[0]}_axes`
    initializers.set(name, intConstant(name, axes.value))
    return { ...node, inputs: [node.inputs[0] as string, name], attributes }
  }
  if (node.op === 'Split' && node.inputs.length < 2)
    return { ...node, attributes: { ...node.attributes, num_outputs: { type: 'int', value: node.outputs.length } } }
  return node
}
