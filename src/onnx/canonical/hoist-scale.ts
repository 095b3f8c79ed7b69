import { shapeSize } from '../../tensor/schema.js'
import { scalarValue } from '../graph/constant.js'
import type { Graph } from '../graph/graph.js'
import { rewriteGraph } from '../graph/rewrite.js'

/**
 * scale * (a b) -> (scale * a) b where a is the smaller tensor: attention scores are [batch, heads, seq, seq], queries
 * only [batch, heads, seq, size], and the derivative's scaling shrinks with it.
 */
export const hoistScales = (graph: Graph): Graph =>
  rewriteGraph(graph, (node, context) => {
    if (node.domain !== '' || (node.op !== 'Mul' && node.op !== 'Div')) return false
    const [first = '', second = ''] = node.inputs
    const scaleFirst = node.op === 'Mul' && scalarValue(context.constantOf(first)) !== undefined
    const [product, scale] = scaleFirst ? [second, first] : [first, second]
    const matmul = context.producerOf(product)
    if (matmul?.op !== 'MatMul' || scalarValue(context.constantOf(scale)) === undefined) return false
    if (context.consumersOf(product).length > 1 || context.isOutput(product)) return false
    const [a = '', b = ''] = matmul.inputs
    const shape = context.shapeOf(a)
    if (shapeSize(shape) >= shapeSize(context.shapeOf(product))) return false
    const scaled = context.emit({ op: node.op, inputs: [a, scale], shape })
    context.emit({ op: 'MatMul', inputs: [scaled, b], outputs: node.outputs })
    return true
  })
