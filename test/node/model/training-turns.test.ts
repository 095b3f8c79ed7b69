import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PeftPlan, PeftSpec } from '../../../src/base/peft-spec.js'
import { trainingTurns, turnAt } from '../../../src/node/model/training-turns.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { adamw, createAdamW } from '../../../src/train/optimiser/adamw.js'
import { createLocalOptimiser } from '../../../src/train/optimiser/local-optimiser.js'

const schema = createSchema([
  { name: 'layers.0.up.lora_A.weight', shape: [2, 3] },
  { name: 'layers.0.up.lora_B.weight', shape: [4, 2] },
  { name: 'classifier.weight', shape: [5] }
])
const [a, b] = schema.entries
const lora: PeftSpec = { method: 'lora', rank: 2, alpha: 4, targets: ['up'], head: ['classifier'], seed: 's' }

/** Who trains in each of the first steps. */
const pattern = (plan: PeftPlan, localSteps: number, steps: number): string =>
  Array.from({ length: steps }, (_, step) => {
    const now = trainingTurns(plan, schema, localSteps)?.(step) ?? []
    return now.some(({ from }) => from === a?.offset) ? 'A' : now.some(({ from }) => from === b?.offset) ? 'B' : '-'
  }).join('')

describe('alternating factors', () => {
  it('B is first, each for `every` rounds of local steps, and the head trains always', () => {
    expect(pattern({ ...lora, alternate: { every: 2 } }, 3, 20)).toBe('BBBBBBAAAAAABBBBBBAA')
    const turns = trainingTurns({ ...lora, alternate: { every: 2 } }, schema, 3)
    for (const step of [0, 7, 13]) expect(turns?.(step)).toContainEqual({ from: 14, to: 19, updates: step })
  })

  it('nothing alternates where the plan does not say so, or names other modules', () => {
    expect(trainingTurns(lora, schema, 3)).toBeUndefined()
    const other = trainingTurns({ ...lora, targets: ['down'], alternate: { every: 1 } }, schema, 3)
    expect(other?.(5).map(({ updates }) => updates)).toEqual([5, 5, 5])
  })

  it('updates are the turns taken before, for any period', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 0, max: 60 }), (period, step) => {
        const before = Array.from({ length: step }, (_, earlier) => turnAt(earlier, 'A', period).trains)
        const taken = before.filter(Boolean).length
        expect(turnAt(step, 'A', period).updates).toBe(taken)
        expect(turnAt(step, 'B', period).updates).toBe(step - taken)
        expect(turnAt(step, 'A', period).trains).not.toBe(turnAt(step, 'B', period).trains)
      })
    )
  })

  it('each factor moves as AdamW moves it alone, and rests with its moments meanwhile', async () => {
    const gradientsAt = (step: number) => Float32Array.from({ length: schema.size }, (_, i) => Math.sin(i + 3 * step))
    let step = 0
    const parameters = Float32Array.from({ length: schema.size }, (_, i) => Math.cos(i))
    const start = parameters.slice()
    const options = { learningRate: 0.1, weightDecay: 0.2, schedule: { kind: 'constant', warmupSteps: 0 } } as const
    const batch = { inputs: {}, labels: { shape: [1], data: Int32Array.of(0) } }
    const optimiser = createLocalOptimiser({
      trainer: { step: async () => ({ loss: 1, gradients: gradientsAt(step) }) },
      batches: { next: () => batch, cursor: () => ({ epoch: 0, position: 0 }) },
      parameters,
      options,
      turns: trainingTurns({ ...lora, alternate: { every: 1 } }, schema, 2)
    })
    const alone = [a, b].map((entry) => ({
      entry,
      values: start.slice(entry?.offset, (entry?.offset ?? 0) + (entry?.size ?? 0)),
      state: createAdamW(entry?.size ?? 0)
    }))
    for (step = 0; step < 7; step++) {
      await optimiser.step()
      // Steps 0, 1, 4 and 5 are those of B.
      const one = alone[step % 4 < 2 ? 1 : 0]
      const { offset = 0, size = 0 } = one?.entry ?? {}
      if (one !== undefined)
        one.state = adamw(one.values, gradientsAt(step).slice(offset, offset + size), one.state, options)
      for (const { entry, values, state } of alone) {
        const { offset: from = 0, size: length = 0 } = entry ?? {}
        expect(parameters.slice(from, from + length)).toEqual(values)
        expect(optimiser.state().m.slice(from, from + length)).toEqual(state.m)
        expect(optimiser.state().v.slice(from, from + length)).toEqual(state.v)
      }
    }
    expect(optimiser.state().step).toBe(7)
  })
})
