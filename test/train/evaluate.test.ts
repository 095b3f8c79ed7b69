import { describe, expect, it } from 'vitest'
import type { Batch } from '../../src/data/batches/batch.js'
import { evaluateDataset } from '../../src/train/evaluate.js'

const batch = (count: number): Batch => ({ inputs: {}, labels: { shape: [count], data: new Int32Array(count) } })

describe('evaluateDataset', () => {
  it('weighs labels, not batches', async () => {
    const results = [
      { lossSum: 6, count: 4, correct: 3 },
      { lossSum: 5, count: 1, correct: 0 }
    ]
    const trainer = { evaluate: async () => results.shift()! }
    expect(await evaluateDataset(trainer, new Float32Array(2), [batch(4), batch(1)])).toEqual({
      loss: 11 / 5,
      accuracy: 3 / 5,
      count: 5
    })
  })

  it('evaluates the parameters of the moment of the call', async () => {
    const parameters = Float32Array.of(0.5)
    const seen: number[] = []
    const trainer = {
      evaluate: async (given: Float32Array) => {
        seen.push(given[0]!)
        parameters[0] = 3
        return { lossSum: 1, count: 1, correct: 1 }
      }
    }
    await evaluateDataset(trainer, parameters, [batch(1), batch(1)])
    expect(seen).toEqual([0.5, 0.5])
  })

  it('has no opinion on nothing', async () => {
    const trainer = { evaluate: async () => ({ lossSum: 0, count: 0, correct: 0 }) }
    expect(await evaluateDataset(trainer, new Float32Array(1), [])).toEqual({ loss: NaN, accuracy: NaN, count: 0 })
  })
})
