import { describe, expect, it } from 'vitest'
import { floatConstant, intConstant } from '../../../src/onnx/graph/constant.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { hoistRowSelections, selectOutputRows } from '../../../src/onnx/canonical/select-rows.js'
import { createSession, type SessionTensor } from '../../../src/onnx/runtime/session.js'
import { inferTypes } from '../../../src/onnx/canonical/specialise.js'
import { type SmallNode, smallGraph, wave } from '../small-graph.js'

const [BATCH, LENGTH, WIDTH, WIDE] = [3, 4, 6, 5]
const noise = (length: number, salt: number): Float32Array => Float32Array.from({ length }, (_, i) => wave(i + salt))

const constants = [
  floatConstant('up', noise(WIDTH * WIDE, 1), [WIDTH, WIDE]),
  floatConstant('down', noise(WIDE * WIDTH, 40), [WIDTH, WIDE]),
  floatConstant('bias', noise(WIDTH, 7)),
  floatConstant('scale', noise(WIDTH, 90)),
  intConstant('matrix', [BATCH * LENGTH, WIDTH]),
  intConstant('cube', [BATCH, LENGTH, WIDTH]),
  intConstant('last', -1),
  intConstant('few', [5, 0])
]

/** A layer's feed-forward half with its residual, then one position of each sequence. */
const LAYER: readonly SmallNode[] = [
  { op: 'Reshape', in: ['x', 'matrix'], out: ['rows'] },
  { op: 'Gemm', in: ['rows', 'up'], out: ['wide'] },
  { op: 'Gelu', in: ['wide'], out: ['bent'] },
  { op: 'Gemm', in: ['bent', 'down', 'bias'], out: ['narrow'], attributes: { transB: { type: 'int', value: 1 } } },
  { op: 'Reshape', in: ['narrow', 'cube'], out: ['apart'] },
  { op: 'Add', in: ['apart', 'x'], out: ['sum'] },
  {
    op: 'LayerNormalization',
    in: ['sum', 'scale', 'bias'],
    out: ['normed'],
    attributes: { axis: { type: 'int', value: 2 } }
  }
]
const pooled: SmallNode = {
  op: 'Gather',
  in: ['normed', 'last'],
  out: ['y'],
  attributes: { axis: { type: 'int', value: 1 } }
}

const graphOf = (nodes: readonly SmallNode[], output = 'y'): Promise<Graph> =>
  inferTypes(smallGraph({ inputs: { x: [BATCH, LENGTH, WIDTH] }, constants, nodes, output }))

async function run(graph: Graph, feeds: Record<string, SessionTensor> = {}): Promise<SessionTensor | undefined> {
  const session = await createSession(graph)
  const x: SessionTensor = { type: 'float32', shape: [BATCH, LENGTH, WIDTH], data: noise(BATCH * LENGTH * WIDTH, 3) }
  const results = await session.run({ x, ...feeds })
  await session.release()
  return Object.values(results)[0]
}

const shapeOf = (graph: Graph, op: string): readonly unknown[] | undefined =>
  graph.values.get(graph.nodes.find((node) => node.op === op)?.outputs[0] ?? '')?.shape

describe('rows are selected as early as they can be', () => {
  it('a position of each sequence, through products, residual and norm', async () => {
    const whole = await graphOf([...LAYER, pooled])
    const hoisted = hoistRowSelections(whole)
    expect(shapeOf(hoisted, 'Gelu')).toEqual([BATCH, WIDE])
    const [want, got] = [await run(whole), await run(hoisted)]
    expect(got?.shape).toEqual([BATCH, WIDTH])
    for (const [i, value] of (want?.data ?? []).entries()) expect(got?.data[i]).toBeCloseTo(value, 5)
  })

  it('rows named by an input, in any order and repeated', async () => {
    const whole = await graphOf(LAYER, 'normed')
    const picked = [7, 2, 2, 11]
    const rows = { output: 'normed', rows: 'picked', count: picked.length }
    const hoisted = hoistRowSelections(selectOutputRows(whole, rows))
    expect(shapeOf(hoisted, 'Gelu')).toEqual([picked.length, WIDE])
    const want = await run(whole)
    const got = await run(hoisted, {
      picked: { type: 'int64', shape: [picked.length], data: Int32Array.from(picked) }
    })
    const expected = picked.flatMap((row) => Array.from(want?.data.subarray(row * WIDTH, (row + 1) * WIDTH) ?? []))
    for (const [i, value] of expected.entries()) expect(got?.data[i]).toBeCloseTo(value, 5)
  })

  it('stays where every row is read whole, too', async () => {
    const whole = await graphOf([
      { op: 'Reshape', in: ['x', 'matrix'], out: ['rows'] },
      { op: 'Relu', in: ['rows'], out: ['some'] },
      { op: 'Gemm', in: ['some', 'some'], out: ['all'], attributes: { transB: { type: 'int', value: 1 } } },
      { op: 'Gather', in: ['all', 'few'], out: ['y'] }
    ])
    const hoisted = hoistRowSelections(whole)
    const [want, got] = [await run(whole), await run(hoisted)]
    for (const [i, value] of (want?.data ?? []).entries()) expect(got?.data[i]).toBeCloseTo(value, 5)
    expect(shapeOf(hoisted, 'Relu')).toEqual([BATCH * LENGTH, WIDTH])
  })
})
