import type { Graph, Node } from '../graph/graph.js'
import { type RewriteContext, rewriteGraph } from '../graph/rewrite.js'

/**
 * Grouped-query attention (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245) without copies of keys and values.
 * Exporters repeat each of them for its group of queries (Expand); here the queries of a group stand one below the other
 * instead: [batch, heads, seq, size] is [batch, kv heads, groups * seq, size] in the same order in memory. The products
 * are larger and fewer, and the gradient of a key is one product and not a sum over copies.
 */
export const groupQueries = (graph: Graph): Graph =>
  rewriteGraph(graph, (node, context) => {
    if (node.op !== 'MatMul' || node.domain !== '') return false
    const [left = '', right = ''] = node.inputs
    const repeated = repeatedHeads(right, context)
    if (repeated === undefined) return false
    const [batch = 0, heads = 0, rows = 0, inner = 0] = context.shapeOf(left)
    const { source, kvHeads, transposed } = repeated
    if (context.shapeOf(left).length !== 4 || heads % kvHeads !== 0) return false
    const grouped = (heads / kvHeads) * rows
    const [, , sequence = 0, size = 0] = context.shapeOf(source)
    const other = transposed
      ? context.emit({
          op: 'Transpose',
          inputs: [source],
          attributes: { perm: { type: 'ints', value: [0, 1, 3, 2] } },
          shape: [batch, kvHeads, size, sequence]
        })
      : source
    const columns = transposed ? sequence : size
    const stacked = reshape(left, [batch, kvHeads, grouped, inner], context)
    const product = context.emit({ op: 'MatMul', inputs: [stacked, other], shape: [batch, kvHeads, grouped, columns] })
    const shape = [batch, heads, rows, columns]
    context.emit({ op: 'Reshape', inputs: [product, context.ints(shape)], outputs: node.outputs, shape })
    return true
  })

const reshape = (x: string, shape: readonly number[], context: RewriteContext): string =>
  context.emit({ op: 'Reshape', inputs: [x, context.ints(shape)], shape })

interface Repeated {
  /** [batch, kv heads, sequence, size], before it was repeated. */
  readonly source: string
  readonly kvHeads: number
  /** The product reads it with its last axes swapped. */
  readonly transposed: boolean
}

/** Reshape(Expand(Reshape(x))) that repeats each head, with or without a Transpose of the last two axes behind it. */
function repeatedHeads(value: string, context: RewriteContext): Repeated | undefined {
  const last = context.producerOf(value)
  const perm = last?.op === 'Transpose' ? last.attributes.perm : undefined
  const transposed = perm?.type === 'ints' && perm.value.join() === '0,1,3,2'
  if (last?.op === 'Transpose' && !transposed) return undefined
  const merged = transposed ? context.producerOf(last?.inputs[0] ?? '') : last
  const expand = merged?.op === 'Reshape' ? context.producerOf(merged.inputs[0] ?? '') : undefined
  const apart = expand?.op === 'Expand' ? context.producerOf(expand.inputs[0] ?? '') : undefined
  const source = apart?.op === 'Reshape' || apart?.op === 'Unsqueeze' ? (apart.inputs[0] ?? '') : ''
  if (merged === undefined || expand === undefined || source === '') return undefined
  const from = context.shapeOf(source)
  const [batch = 0, kvHeads = 0, sequence = 0, size = 0] = from
  const [, , groups = 0] = context.shapeOf(outputOf(expand))
  const isRepeat =
    from.length === 4 &&
    context.shapeOf(expand.inputs[0] ?? '').join() === [batch, kvHeads, 1, sequence, size].join() &&
    context.shapeOf(outputOf(expand)).join() === [batch, kvHeads, groups, sequence, size].join() &&
    context.shapeOf(outputOf(merged)).join() === [batch, kvHeads * groups, sequence, size].join()
  return isRepeat ? { source, kvHeads, transposed } : undefined
}

const outputOf = (node: Node): string => node.outputs[0] ?? ''
