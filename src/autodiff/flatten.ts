import type { Graph, Node } from '../onnx/graph/graph.js'
import { shapeSize } from '../tensor/schema.js'
import { ancestorsOf } from './activity.js'
import { createEmitter } from './emit.js'
import { createOps } from './ops.js'

/** Output of a flattened graph: all gradients one behind the other. */
export const FLAT_GRADIENTS = 'gradients'

/**
 * Joins the outputs `gradients` into one vector, FLAT_GRADIENTS, in the order given; other outputs stay in front. One
 * output costs the runtime's binding one copy instead of one for every tensor, and a GPU one transfer.
 */
export function flattenGradients(graph: Graph, gradients: readonly string[]): Graph {
  const op = createOps(createEmitter(graph, 'flat'))
  const rows = gradients.map((name) => {
    const producer = op.emitter.producerOf(name)
    const source = producer?.op === 'Identity' ? (producer.inputs[0] ?? name) : name
    return op.reshape(source, [shapeSize(op.shape(source))])
  })
  const joined = new Set(gradients)
  const others = graph.outputs.map(({ name }) => name).filter((name) => !joined.has(name))
  return firstOthers(op.emitter.finish([...others, op.emitter.alias(op.concat(rows, 0), FLAT_GRADIENTS)]))
}

/**
 * The runtime walks up from the last node without readers (see onnx/graph/live-bytes.ts), so what no gradient needs goes to the
 * end: the loss is then computed first, and the reverse pass may write over the logits and probabilities that it has read.
 */
function firstOthers(graph: Graph): Graph {
  const needed = ancestorsOf(graph.nodes, [FLAT_GRADIENTS])
  const isNeeded = (node: Node): boolean => needed.has(node)
  return { ...graph, nodes: [...graph.nodes.filter(isNeeded), ...graph.nodes.filter((node) => !isNeeded(node))] }
}
