import { describe, expect, it } from 'vitest'
import type { BatchTensor } from '../../../src/data/batches/batch.js'
import type { Session, SessionTensor } from '../../../src/onnx/runtime/session.js'
import { createActivationCache } from '../../../src/train/step/activation-cache.js'
import { createFrozenPart } from '../../../src/train/step/frozen-part.js'

const WIDTH = 3

/** y[row] = x[row] * 2 + mix * sum of the batch, [rows, WIDTH]; counts its runs. */
function fakeSession(rows: number, mix = 0) {
  const ran: number[] = []
  const session: Session = {
    inputs: [{ name: 'x', type: 'float32', shape: [rows, WIDTH] }],
    outputs: [{ name: 'y', type: 'float32', shape: [rows, WIDTH] }],
    run(feeds) {
      const data = feeds.x?.data as Float32Array
      ran.push(data[0] as number)
      const total = data.reduce((sum, value, i) => sum + value * (i % 2 === 0 ? 1 : 0.5), 0)
      const y: SessionTensor = { type: 'float32', shape: [rows, WIDTH], data: data.map((v) => 2 * v + mix * total) }
      return Promise.resolve({ y })
    },
    endProfiling: () => undefined,
    release: () => Promise.resolve()
  }
  return { session, ran }
}

const inputs = (...examples: readonly number[]): Record<string, BatchTensor> => ({
  x: {
    type: 'float32',
    shape: [examples.length, WIDTH],
    data: Float32Array.from(examples.flatMap((value) => [value, value + 0.5, -value]))
  }
})

describe('the frozen part', () => {
  it('runs once for each example, in whatever company it comes back', async () => {
    const { session, ran } = fakeSession(2)
    const cache = createActivationCache(1000)
    const part = createFrozenPart({ session, values: ['y'], batchSize: 2, cache })
    const first = await part.activations(inputs(1, 3))
    expect(ran).toHaveLength(2) // The second time in another order, to see whether examples depend on each other.
    expect(await part.activations(inputs(1, 3))).toEqual(first)
    await part.activations(inputs(0.25, 7))
    expect(ran).toHaveLength(3)
    const mixed = await part.activations(inputs(7, 1))
    expect(ran).toHaveLength(3)
    expect(mixed.y?.data).toEqual(Float32Array.from([14, 15, -14, 2, 3, -2]))
    expect(cache.bytes).toBe(4 * WIDTH * 4)
  })

  it('keeps nothing of a model whose examples see each other', async () => {
    const { session, ran } = fakeSession(2, 0.5)
    const cache = createActivationCache(1000)
    const part = createFrozenPart({ session, values: ['y'], batchSize: 2, cache })
    for (let i = 0; i < 3; i++) await part.activations(inputs(1, 3))
    expect(ran).toHaveLength(4)
    expect(cache.bytes).toBe(0)
  })

  it('stays within its bound and keeps what it has', async () => {
    const { session, ran } = fakeSession(1)
    const cache = createActivationCache(2 * WIDTH * 4 + 3)
    const part = createFrozenPart({ session, values: ['y'], batchSize: 1, cache })
    for (const example of [1, 2, 3, 1, 2]) await part.activations(inputs(example))
    expect(cache.bytes).toBe(2 * WIDTH * 4)
    expect(ran).toEqual([1, 2, 3])
  })
})
