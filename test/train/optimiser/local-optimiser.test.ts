import { describe, expect, it } from 'vitest'
import type { Batch, BatchStream } from '../../../src/data/batches/batch.js'
import { createLocalOptimiser } from '../../../src/train/optimiser/local-optimiser.js'

const BATCH: Batch = { inputs: {}, labels: { shape: [1], data: new Int32Array(1) } }

function countingBatches(): BatchStream {
  let position = 0
  return {
    next: () => {
      position++
      return BATCH
    },
    cursor: () => ({ epoch: 0, position })
  }
}

/** loss = sum (x - target)^2 / 2, gradient x - target. */
const quadratic = (target: readonly number[]) => ({
  step: async (x: Float32Array) => ({
    loss: target.reduce((sum, t, i) => sum + (x[i]! - t) ** 2 / 2, 0),
    gradients: Float32Array.from(target, (t, i) => x[i]! - t)
  })
})

describe('local optimiser', () => {
  it('takes the first AdamW step of the peak learning rate towards the target, by the closed form lr * sign(g)', async () => {
    const parameters = Float32Array.of(0.5, -3, 2)
    const optimiser = createLocalOptimiser({
      trainer: quadratic([3, -1, 0.5]),
      batches: countingBatches(),
      parameters,
      options: { learningRate: 0.25, weightDecay: 0, epsilon: 0, schedule: { kind: 'constant' } }
    })
    expect(await optimiser.step()).toBeCloseTo((2.5 ** 2 + 2 ** 2 + 1.5 ** 2) / 2, 6)
    expect([...parameters]).toEqual([0.75, -2.75, 1.75])
    expect(optimiser.state().step).toBe(1)
    expect(optimiser.cursor()).toEqual({ epoch: 0, position: 1 })
  })

  it('scales the step by the schedule and stands still once a cosine has ended', async () => {
    const parameters = Float32Array.of(8)
    const optimiser = createLocalOptimiser({
      trainer: quadratic([-100]),
      batches: countingBatches(),
      parameters,
      options: { learningRate: 0.5, weightDecay: 0, epsilon: 0, schedule: { kind: 'cosine', totalSteps: 2 } }
    })
    await optimiser.step()
    expect(parameters[0]).toBeCloseTo(7.5, 5)
    await optimiser.step()
    // Half way through two steps the factor is 1/2; the bias-corrected ratio stays near one.
    expect(parameters[0]).toBeCloseTo(7.25, 2)
    const before = parameters[0]
    await optimiser.step()
    expect(parameters[0]).toBe(before)
  })

  it('keeps what an exchange added while the gradient was on its way', async () => {
    const parameters = Float32Array.of(1, 4)
    const gate = Promise.withResolvers<void>()
    const optimiser = createLocalOptimiser({
      trainer: {
        step: async (x) => {
          const seen = x.slice()
          await gate.promise
          return { loss: 0, gradients: seen }
        }
      },
      batches: countingBatches(),
      parameters,
      options: { learningRate: 0.25, weightDecay: 0, epsilon: 0, schedule: { kind: 'constant' } }
    })
    const step = optimiser.step()
    parameters[0]! += 10
    parameters[1]! -= 10
    gate.resolve()
    await step
    // Both gradients were positive when they were taken, whatever the live values are now.
    expect([...parameters]).toEqual([10.75, -6.25])
  })

  it('continues from a saved state as if it had never stopped', async () => {
    const options = { learningRate: 0.125, schedule: { kind: 'cosine', totalSteps: 9 } } as const
    const whole = Float32Array.of(0.5, -3)
    const straight = createLocalOptimiser({
      trainer: quadratic([2, 7]),
      batches: countingBatches(),
      parameters: whole,
      options
    })
    for (let i = 0; i < 5; i++) await straight.step()
    const halved = Float32Array.of(0.5, -3)
    const first = createLocalOptimiser({
      trainer: quadratic([2, 7]),
      batches: countingBatches(),
      parameters: halved,
      options
    })
    for (let i = 0; i < 2; i++) await first.step()
    const { m, v, step } = first.state()
    const second = createLocalOptimiser({
      trainer: quadratic([2, 7]),
      batches: countingBatches(),
      parameters: halved,
      options,
      state: { m: m.slice(), v: v.slice(), step }
    })
    for (let i = 0; i < 3; i++) await second.step()
    expect([...halved]).toEqual([...whole])
  })
})
