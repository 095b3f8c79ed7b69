import type { Graph, Node } from '../../src/onnx/graph/graph.js'
import { createSession } from '../../src/onnx/runtime/session.js'
import { shapeSize, type Shape } from '../../src/tensor/schema.js'
import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'

/** One matrix product, [m, k] times [k, n]. */
export interface Product {
  readonly m: number
  readonly k: number
  readonly n: number
  readonly transB: boolean
}

/** The largest distinct Gemms of a graph: where the runtime's peak rate is looked for. */
export function largestProducts(graph: Graph, count: number): Product[] {
  const distinct = new Map<string, Product>()
  for (const { op, inputs, attributes, outputs } of graph.nodes) {
    if (op !== 'Gemm' || Number(attributes.transA?.value ?? 0) === 1) continue
    const [m = 1, n = 1] = (graph.values.get(outputs[0] as string)?.shape ?? []) as Shape
    const k = Number(graph.values.get(inputs[0] as string)?.shape[1] ?? 1)
    const transB = Number(attributes.transB?.value ?? 0) === 1
    distinct.set(`${m} ${k} ${n} ${transB}`, { m, k, n, transB })
  }
  return [...distinct.values()].sort((a, b) => b.m * b.k * b.n - a.m * a.k * a.n).slice(0, count)
}

export interface Probe {
  readonly flops: number
  run(): Promise<void>
  release(): Promise<void>
}

/** Times this many products in one run: what goes in and comes out of the runtime is small beside them. */
const CHAIN = 4

/** A session that does nothing but one shape of Gemm, CHAIN times over inputs of its own. */
export async function openProbe({ m, k, n, transB }: Product, threads: number): Promise<Probe> {
  const noise = (name: string, shape: Shape) =>
    floatConstant(
      name,
      Float32Array.from({ length: shapeSize(shape) }, (_, i) => ((i * 7919) % 2003) / 2003 - 0.5),
      shape
    )
  const zero = intConstant('zero', [0, 0])
  const one = intConstant('one', [1, 1])
  const weights = Array.from({ length: CHAIN }, (_, i) => noise(`w${i}`, transB ? [n, k] : [k, n]))
  const nodes = weights.flatMap((weight, i): Node[] => [
    gemmNode(`y${i}`, weight.name, transB),
    { op: 'Slice', domain: '', name: `c${i}`, inputs: [`y${i}`, 'zero', 'one'], outputs: [`c${i}`], attributes: {} }
  ])
  const input = { name: 'x', type: 'float32', shape: [m, k] } as const
  const session = await createSession(
    {
      name: 'peak',
      opsets: { '': 20 },
      inputs: [input],
      outputs: weights.map((_, i) => ({ name: `c${i}`, type: 'float32', shape: [1, 1] })),
      nodes,
      initializers: new Map([...weights, zero, one].map((constant) => [constant.name, constant])),
      values: new Map()
    },
    { threads, optimization: 'disabled' }
  )
  const data = Float32Array.from({ length: m * k }, (_, i) => ((i * 104729) % 1009) / 1009 - 0.5)
  return {
    flops: CHAIN * 2 * m * k * n,
    run: async () => void (await session.run({ x: { type: 'float32', shape: [m, k], data } })),
    release: () => session.release()
  }
}

const gemmNode = (output: string, weight: string, transB: boolean): Node => ({
  op: 'Gemm',
  domain: '',
  name: output,
  inputs: ['x', weight],
  outputs: [output],
  attributes: { transB: { type: 'int', value: transB ? 1 : 0 } }
})
