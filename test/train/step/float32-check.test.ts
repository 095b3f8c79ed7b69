import { describe, expect, it } from 'vitest'
import type { Batch } from '../../../src/data/batches/batch.js'
import { cosine, withFloat32Check } from '../../../src/train/step/float32-check.js'
import type { Trainer } from '../../../src/train/trainer.js'

const batch: Batch = { inputs: {}, labels: { shape: [0], data: new Int32Array() } }

function trainerOf(gradients: readonly number[], calls: string[], name: string): Trainer {
  return {
    description: {} as Trainer['description'],
    step: async () => {
      calls.push(`${name} step`)
      return { loss: 0.5, gradients: Float32Array.from(gradients) }
    },
    evaluate: () => expect.unreachable() as never,
    close: async () => void calls.push(`${name} close`)
  }
}

describe('a check against float32', () => {
  it('is made once, on the first step, and its trainer closed', async () => {
    const calls: string[] = []
    const exact = trainerOf([4, 3], calls, 'float32')
    const trainer = withFloat32Check(trainerOf([3, 4], calls, 'int8'), async () => exact)
    const first = await trainer.step(new Float32Array(2), batch)
    expect(first).toMatchObject({ loss: 0.5, gradients: Float32Array.of(3, 4) })
    expect(first.float32Cosine).toBeCloseTo(24 / 25, 12)
    expect(await trainer.step(new Float32Array(2), batch)).not.toHaveProperty('float32Cosine')
    expect(calls).toEqual(['int8 step', 'float32 step', 'float32 close', 'int8 step'])
  })

  it.each([
    { a: [3, 4], b: [-6, -8], want: -1 },
    { a: [0, 2], b: [5, 0], want: 0 },
    { a: [0, 0], b: [0, 0], want: 1 },
    { a: [0, 0], b: [0.5, 3], want: 0 }
  ])('cosine of $a and $b is $want', ({ a, b, want }) => {
    expect(cosine(Float32Array.from(a), Float32Array.from(b))).toBeCloseTo(want, 12)
  })
})
