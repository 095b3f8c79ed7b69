import { describe, expect, it } from 'vitest'
import { intConstant } from '../../../src/onnx/graph/constant.js'
import { groupQueries } from '../../../src/onnx/canonical/grouped-attention.js'
import { createSession, type SessionTensor } from '../../../src/onnx/runtime/session.js'
import { inferTypes } from '../../../src/onnx/canonical/specialise.js'
import { smallGraph, wave } from '../small-graph.js'

const [BATCH, HEADS, KV, QUERIES, KEYS, SIZE] = [2, 6, 2, 3, 5, 4]
const GROUPS = HEADS / KV

/** q k^T v with keys and values repeated for each group, the softmax left out. */
const attention = (repeat: readonly number[]) =>
  smallGraph({
    inputs: { q: [BATCH, HEADS, QUERIES, SIZE], k: [BATCH, KV, KEYS, SIZE], v: [BATCH, KV, KEYS, SIZE] },
    constants: [
      intConstant('apart', [BATCH, KV, 1, KEYS, SIZE]),
      intConstant('wide', repeat),
      intConstant('merged', [BATCH, HEADS, KEYS, SIZE])
    ],
    nodes: [
      ...['k', 'v'].flatMap((x) => [
        { op: 'Reshape', in: [x, 'apart'], out: [`${x}.apart`] },
        { op: 'Expand', in: [`${x}.apart`, 'wide'], out: [`${x}.wide`] },
        { op: 'Reshape', in: [`${x}.wide`, 'merged'], out: [`${x}.all`] }
      ]),
      { op: 'Transpose', in: ['k.all'], out: ['k.t'], attributes: { perm: { type: 'ints', value: [0, 1, 3, 2] } } },
      { op: 'MatMul', in: ['q', 'k.t'], out: ['scores'] },
      { op: 'MatMul', in: ['scores', 'v.all'], out: ['y'] }
    ],
    output: 'y'
  })

const tensor = (shape: readonly number[], salt: number): SessionTensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => wave(i + salt))
})

describe('grouped queries', () => {
  it('give what repeated keys and values give, without repeating them', async () => {
    const repeated = await inferTypes(attention([BATCH, KV, GROUPS, KEYS, SIZE]))
    const grouped = groupQueries(repeated)
    expect(grouped.nodes.map(({ op }) => op)).not.toContain('Expand')
    const feeds = {
      q: tensor([BATCH, HEADS, QUERIES, SIZE], 0),
      k: tensor([BATCH, KV, KEYS, SIZE], 11),
      v: tensor([BATCH, KV, KEYS, SIZE], 29)
    }
    const outputs = []
    for (const graph of [repeated, grouped]) {
      const session = await createSession(graph)
      outputs.push(await session.run(feeds))
      await session.release()
    }
    const [want, got] = outputs
    expect(got?.y?.shape).toEqual(want?.y?.shape)
    for (const [i, value] of (want?.y?.data ?? []).entries()) expect(got?.y?.data[i]).toBeCloseTo(value, 5)
  })

  it('leaves products with anything else alone', async () => {
    const graph = await inferTypes(
      smallGraph({
        inputs: { q: [BATCH, HEADS, QUERIES, SIZE], k: [BATCH, HEADS, SIZE, KEYS] },
        nodes: [{ op: 'MatMul', in: ['q', 'k'], out: ['y'] }],
        output: 'y'
      })
    )
    expect(groupQueries(graph).nodes).toEqual(graph.nodes)
  })
})
