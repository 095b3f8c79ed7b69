import type { Graph, Node } from './graph.js'
import { type RewriteContext, rewriteGraph } from './rewrite.js'

/** Ops that only rename axes; on static shapes they are all one. */
const RESHAPES = new Set(['Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'])

const isReshape = (node: Node | undefined): node is Node =>
  node !== undefined && node.domain === '' && RESHAPES.has(node.op)

/**
 * Every chain of reshapes becomes at most one Reshape with a constant target, equal ones are shared, and those that
 * change nothing vanish.
 */
export function tidyReshapes(graph: Graph): Graph {
  const made = new Map<string, string>()
  return rewriteGraph(graph, (node, context) => {
    if (!isReshape(node)) return false
    const output = node.outputs[0] as string
    const shape = context.shapeOf(output)
    const source = sourceOf(node, context)
    if (context.isOutput(output)) {
      emitReshape(source, output, context)
      return true
    }
    const key = `${source} ${shape.join()}`
    const known = sameShape(context.shapeOf(source), shape) ? source : made.get(key)
    if (known !== undefined) context.alias(output, known)
    else made.set(key, emitReshape(source, output, context))
    return true
  })
}

function sourceOf(node: Node, context: RewriteContext): string {
  let source = node.inputs[0] as string
  for (let before = context.producerOf(source); isReshape(before); before = context.producerOf(source))
    source = before.inputs[0] as string
  return context.resolve(source)
}

function emitReshape(source: string, output: string, context: RewriteContext): string {
  const shape = context.shapeOf(output)
  const type = context.typeOf(output) ?? 'float32'
  return context.emit({ op: 'Reshape', inputs: [source, context.ints(shape)], outputs: [output], type, shape })
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join()
