import { type Shape, shapeSize } from '../../tensor/schema.js'
import type { Graph, Node } from './graph.js'

const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'FusedMatMul', 'MatMulNBits'])

/** Floating-point operations of the matrix products among `nodes`, a multiplication and an addition counted as two. */
export function productFlops({ values }: Pick<Graph, 'values'>, nodes: Iterable<Node>): number {
  const shapeOf = (name: string): Shape => (values.get(name)?.shape ?? []) as Shape
  let flops = 0
  for (const node of nodes)
    if (PRODUCTS.has(node.op)) flops += 2 * shapeSize(shapeOf(node.outputs[0] as string)) * innerExtent(node, shapeOf)
  return flops
}

function innerExtent({ op, inputs, attributes }: Node, shapeOf: (name: string) => Shape): number {
  if (op === 'MatMulNBits') return Number(attributes.K?.value ?? 0)
  const transposed = Number(attributes.transA?.value ?? 0) === 1
  return shapeOf(inputs[0] as string).at(transposed ? -2 : -1) ?? 1
}
