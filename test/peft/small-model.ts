import { canonicalise, nameModel } from '../../src/onnx/canonical/canonicalise.js'
import { floatConstant } from '../../src/onnx/graph/constant.js'
import { readWeight } from '../../src/onnx/file/weights.js'
import type { BaseModel } from '../../src/peft/method/method.js'
import { smallGraph, wave } from '../onnx/small-graph.js'

export const values = (length: number, salt = 0): Float32Array =>
  Float32Array.from({ length }, (_, index) => wave(index + salt) / 3)

/** float32[rows, columns] with `transposed` rows and columns swapped. */
export const transpose = (matrix: Float32Array, rows: number, columns: number): Float32Array =>
  Float32Array.from(matrix, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)] as number)

/** x [2, 3, 4] -> layers.0.up (4 to 6, no bias) -> Relu (smooth: Tanh) -> layers.0.down (6 to 4) -> classifier (4 to 3) -> logits. */
const graphOf = (smooth: boolean) =>
  smallGraph({
    inputs: { x: [2, 3, 4] },
    constants: [
      floatConstant('val_1', values(24), [4, 6]),
      floatConstant('layers.0.down.weight', values(24, 50), [6, 4]),
      floatConstant('layers.0.down.bias', values(4, 90)),
      floatConstant('classifier.weight', values(12, 120), [3, 4]),
      floatConstant('classifier.bias', values(3, 150))
    ],
    nodes: [
      { op: 'MatMul', in: ['x', 'val_1'], out: ['u'], name: '/layers.0/up/MatMul', module: 'layers.0.up' },
      { op: smooth ? 'Tanh' : 'Relu', in: ['u'], out: ['r'] },
      { op: 'MatMul', in: ['r', 'layers.0.down.weight'], out: ['d'], module: 'layers.0.down' },
      { op: 'Add', in: ['layers.0.down.bias', 'd'], out: ['e'], module: 'layers.0.down' },
      {
        op: smooth ? 'ReduceMean' : 'ReduceMax',
        in: ['e', 'one'],
        out: ['p'],
        attributes: { keepdims: { type: 'int', value: 0 } }
      },
      {
        op: 'Gemm',
        in: ['p', 'classifier.weight', 'classifier.bias'],
        out: ['logits'],
        module: 'classifier',
        attributes: { transB: { type: 'int', value: 1 } }
      }
    ],
    output: 'logits'
  })

export async function smallModel({ smooth = false } = {}) {
  const graph = graphOf(smooth)
  const one = {
    name: 'one',
    type: 'int64',
    shape: [1],
    data: { kind: 'inline', bytes: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) }
  } as const
  const named = nameModel({ ...graph, initializers: new Map([...graph.initializers, ['one', one]]) })
  const base: BaseModel = {
    weights: named.weights,
    graph: named.graph,
    read: (initializer) => readWeight(initializer, ''),
    // 7 of 24 elements of each.
    masks: () =>
      new Map([
        ['layers.0.up', Uint32Array.of(0, 2, 7, 10, 12, 18, 23)],
        ['layers.0.down', Uint32Array.of(1, 3, 6, 9, 14, 19, 22)]
      ])
  }
  return { base, canonical: await canonicalise(named, { x: [2, 3, 4] }) }
}
