import { describe, expect, it } from 'vitest'
import type { PeftPlan, PeftSpec } from '../../../src/base/peft-spec.js'
import { mostSlots, ownPlan } from '../../../src/node/config/own-plan.js'
import { createMethod } from '../../../src/peft/create-method.js'
import { nestedPart, slotCount, withSlots } from '../../../src/tensor/slots.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { smallModel, values } from '../../peft/small-model.js'

const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const common = { targets: ['up', 'down'], head: [], seed: 'spring' }
const lowRank = { rank: 4, alpha: 6, ...common }
const PLANS: readonly PeftSpec[] = [
  { method: 'lora', ...lowRank },
  { method: 'rslora', ...lowRank },
  { method: 'dora', ...lowRank },
  { method: 'ffa-lora', ...lowRank },
  { method: 'lora-xs', ...lowRank, heads: 1 },
  { method: 'ravan', ...lowRank, rank: 1, heads: 4 }
]
const peerRanks = 'nested'

const methodOf = async (peft: PeftPlan) => createMethod(peft, (await smallModel()).base, task)

describe.each(PLANS.map((peft) => [peft.method, peft] as const))('%s with fewer slots', (_, peft) => {
  it('has the first of all slots, with the same start', async () => {
    const all = await methodOf(peft)
    for (const slots of [1, 3]) {
      const few = await methodOf(ownPlan({ peft, peerRanks }, slots))
      expect(few.schema).toEqual(withSlots(all.schema, slots))
      expect(slotCount(few.schema)).toBe(slots)
      expect(few.initial).toEqual(nestedPart(all.schema, few.schema).take(all.initial))
      for (const { name, shape, values: own } of few.frozen) {
        const frozen = all.frozen.find((one) => one.name === name)
        const columns = frozen?.shape[1] as number
        // Leading rows and columns of what everybody derives from the seed.
        for (const [i, value] of own.entries()) {
          const [row, column] = [Math.floor(i / (shape[1] as number)), i % (shape[1] as number)]
          expect(value).toBe(frozen?.values[row * columns + column])
        }
      }
    }
  })

  it('does what a full peer does whose other slots are without effect: scales are those of the federation', async () => {
    const all = await methodOf(peft)
    const few = await methodOf(ownPlan({ peft, peerRanks }, 2))
    const parameters = few.initial.map((value, i) => value + (values(1, 17 * i)[0] as number))
    const part = nestedPart(all.schema, few.schema)
    // A stays drawn in the slots that are not trained; B and cores are zero there.
    const padded = all.initial.slice()
    part.addInto(
      parameters.map((value, i) => value - (part.take(all.initial)[i] as number)),
      padded
    )
    const [whole, small] = [all.merge(padded), few.merge(parameters)]
    expect([...(small?.keys() ?? [])]).toEqual([...(whole?.keys() ?? [])])
    for (const [name, { values: expected }] of whole ?? [])
      for (const [i, value] of (small?.get(name)?.values ?? []).entries())
        expect(value).toBeCloseTo(expected[i] as number, 5)
    const trained = few.schema.entries.some((entry) => viewOf(parameters, entry).some((value) => value !== 0))
    expect(trained).toBe(true)
  })
})

describe('slots of a plan', () => {
  const [lora] = PLANS as readonly [PeftSpec]

  it('are those of its shared low-rank methods, which must agree', () => {
    expect(mostSlots(lora)).toBe(4)
    expect(mostSlots([lora, { method: 'bitfit', ...common }])).toBe(4)
    expect(mostSlots([lora, { method: 'lora', ...lowRank, rank: 9, private: true }])).toBe(4)
    expect(mostSlots([lora, { method: 'lora-xs', ...lowRank, rank: 3, heads: 1 }])).toBeUndefined()
    expect(mostSlots({ method: 'lora', ...lowRank, ranks: { up: 2 } })).toBeUndefined()
    expect(mostSlots({ method: 'lora', ...lowRank, start: 'svd' })).toBeUndefined()
    expect(mostSlots({ method: 'bitfit', ...common })).toBeUndefined()
  })

  it('are all of them where a configuration says nothing, and refused where the federation has one rank', () => {
    expect(ownPlan({ peft: lora }, null)).toBe(lora)
    const mine: PeftSpec = { method: 'lora', ...lowRank, rank: 9, private: true }
    expect(ownPlan({ peft: [lora, mine], peerRanks }, 2)).toEqual([
      { method: 'lora', ...lowRank, rank: 2, alpha: 3 },
      mine
    ])
    const code = (plan: () => unknown) => {
      try {
        plan()
      } catch (error) {
        return (error as { code?: string }).code
      }
      return 'none'
    }
    expect(code(() => ownPlan({ peft: lora }, 2))).toBe('config/one-rank')
    expect(code(() => ownPlan({ peft: lora, peerRanks }, 5))).toBe('config/too-many-slots')
    expect(code(() => ownPlan({ peft: lora, peerRanks }, 4))).toBe('none')
  })
})
