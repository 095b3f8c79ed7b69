import type { Graph, Node } from '../graph/graph.js'
import { type RewriteContext, rewriteGraph } from '../graph/rewrite.js'

/** Clears what emptied caches and lifted opsets leave behind once shapes are known. */
export const clearDeadShapeOps = (graph: Graph): Graph =>
  rewriteGraph(graph, (node, context) => {
    if (node.domain !== '') return false
    if (node.op === 'Concat') return withoutEmptyParts(node, context)
    if (node.op === 'Reshape') return unflattenSoftmax(node, context)
    return false
  })

/** Parts of extent 0 (an empty key/value cache in front of the keys) add nothing to a Concat. */
function withoutEmptyParts(node: Node, context: RewriteContext): boolean {
  const [output = ''] = node.outputs
  const filled = node.inputs.filter((input) => !context.shapeOf(input).includes(0))
  const [only] = filled
  if (filled.length === node.inputs.length || only === undefined || context.isOutput(output)) return false
  if (filled.length === 1) context.alias(output, only)
  else {
    const type = context.typeOf(output) ?? 'float32'
    const shape = context.shapeOf(output)
    context.emit({ op: 'Concat', inputs: filled, attributes: node.attributes, outputs: [output], type, shape })
  }
  return true
}

/** Reshape(Softmax(Reshape(x))) over rows of the last axis, which opsets before 13 mean, is Softmax(x). */
function unflattenSoftmax(node: Node, context: RewriteContext): boolean {
  const softmax = context.producerOf(node.inputs[0] as string)
  if (softmax?.op !== 'Softmax' && softmax?.op !== 'LogSoftmax') return false
  const [rows = ''] = softmax.inputs
  const before = context.producerOf(rows)
  if (before?.op !== 'Flatten' && before?.op !== 'Reshape') return false
  const [x = ''] = before.inputs
  const [y = ''] = node.outputs
  const [shape, flat] = [context.shapeOf(x), context.shapeOf(rows)]
  const axis = Number(softmax.attributes.axis?.value ?? -1)
  const isLast = axis === -1 || axis === flat.length - 1
  if (!isLast || shape.join() !== context.shapeOf(y).join() || shape.at(-1) !== flat.at(-1)) return false
  const attributes = { axis: { type: 'int', value: -1 } } as const
  context.emit({ op: softmax.op, inputs: [x], attributes, outputs: [y], shape })
  return true
}
