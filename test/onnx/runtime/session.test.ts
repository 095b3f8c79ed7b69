import { describe, expect, it } from 'vitest'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { createSession } from '../../../src/onnx/runtime/session.js'

const graph: Graph = {
  name: 'gather-scale',
  opsets: { '': 20 },
  inputs: [
    { name: 'ids', type: 'int64', shape: ['n'] },
    { name: 'factor', type: 'float32', shape: [2] }
  ],
  outputs: [{ name: 'y', type: 'float32', shape: ['n', 2] }],
  nodes: [
    { op: 'Gather', domain: '', name: 'g', inputs: ['table', 'ids'], outputs: ['row'], attributes: {} },
    { op: 'Mul', domain: '', name: 'm', inputs: ['row', 'factor'], outputs: ['y'], attributes: {} }
  ],
  initializers: new Map([['table', floatConstant('table', [1, 2, 3, 4, 5, 6], [3, 2])]]),
  values: new Map()
}

describe('a session', () => {
  it('widens int64 feeds, negative ones too, and fills preallocated outputs in place', async () => {
    const session = await createSession(graph)
    const flat = new Float32Array(10)
    await session.run(
      {
        ids: { type: 'int64', shape: [2], data: Int32Array.of(-1, 0) },
        factor: { type: 'float32', shape: [2], data: Float32Array.of(0.5, 3) }
      },
      { y: { type: 'float32', shape: [2, 2], data: flat.subarray(3, 7) } }
    )
    expect(Array.from(flat)).toEqual([0, 0, 0, 2.5, 18, 0.5, 6, 0, 0, 0])
    await session.release()
    await session.release()
  })

  it('says in the runtime’s words why a graph is refused', async () => {
    const broken: Graph = { ...graph, nodes: graph.nodes.slice(1) }
    await expect(createSession(broken)).rejects.toMatchObject({ code: 'onnx/session-failed' })
  })

  it('says which input does not fit', async () => {
    const session = await createSession(graph)
    const run = session.run({
      ids: { type: 'int64', shape: [1], data: Int32Array.of(0) },
      factor: { type: 'float32', shape: [3], data: new Float32Array(3) }
    })
    await expect(run).rejects.toMatchObject({ code: 'onnx/run-failed' })
    await session.release()
  })
})
