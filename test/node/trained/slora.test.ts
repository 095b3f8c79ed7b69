import { describe, expect, it } from 'vitest'
import type { PeftSpec } from '../../../src/base/peft-spec.js'
import { secondStage } from '../../../src/node/trained/slora.js'
import { createMethod } from '../../../src/peft/create-method.js'
import type { BaseModel } from '../../../src/peft/method/method.js'
import { parametersFrom } from '../../../src/peft/files/adapter-format.js'
import { readSafetensors, writeSafetensors } from '../../../src/tensor/safetensors.js'
import { smallModel, values } from '../../peft/small-model.js'

const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const sparse: PeftSpec = {
  method: 'sparse',
  targets: ['up', 'down'],
  density: 0.4,
  mask: 'random',
  head: ['classifier'],
  seed: 'spring'
}

/** What a first stage has learned, as `peertune export` writes it, and the weights that come of it. */
async function firstStage() {
  const { base } = await smallModel()
  const method = createMethod(sparse, base, task)
  const parameters = method.initial.map((value, i) => value + (values(1, 13 * i)[0] as number))
  const entries = method.exported(parameters).map(({ name, shape, values: data }) => ({ name, shape, data }))
  return { base, tensors: readSafetensors(writeSafetensors(entries)), weights: method.merge(parameters) }
}

type Weights = ReadonlyMap<string, { readonly values: Float32Array }> | undefined

/** What a start makes of each weight, minus the base's own. */
function changes(base: BaseModel, weights: Weights): Record<string, number[]> {
  return Object.fromEntries(
    [...(weights ?? [])].map(([name, { values: changed }]) => {
      const weight = base.weights.get(name)
      const before = weight === undefined ? [] : base.read(weight.initializer)
      return [name, [...changed].map((value, i) => value - (before[i] as number))]
    })
  )
}

const squares = (some: readonly number[] = []): number => some.reduce((sum, value) => sum + value * value, 0)

async function start(rank: number, alpha: number) {
  const { base, tensors, weights } = await firstStage()
  const second = secondStage({ plan: sparse, tensors }, base, { rank, alpha })
  const method = createMethod(second.plan, base, task)
  const entries = second.tensors.map(({ name, shape, values: data }) => ({ name, shape, data }))
  const parameters = parametersFrom(readSafetensors(writeSafetensors(entries)), method.schema)
  return { kept: second.kept, learned: changes(base, weights), started: changes(base, method.merge(parameters)) }
}

describe('the second stage of SLoRA', () => {
  it.each([2, 7])(
    'of full rank starts at exactly what the first has learned, head included (alpha %d)',
    async (alpha) => {
      const { learned, started, kept } = await start(4, alpha)
      expect(Object.keys(started).toSorted()).toEqual(Object.keys(learned).toSorted())
      expect(kept.get('layers.0.up')).toBeCloseTo(1, 6)
      for (const [name, expected] of Object.entries(learned)) {
        expect(squares(expected)).toBeGreaterThan(0)
        for (const [i, value] of (started[name] ?? []).entries()) expect(value).toBeCloseTo(expected[i] as number, 6)
      }
    }
  )

  it.each([1, 2])('of rank %d loses what it says, and nothing that is orthogonal to what it has', async (rank) => {
    const { learned, started, kept } = await start(rank, 3)
    for (const path of ['layers.0.up', 'layers.0.down']) {
      const [whole = [], part = []] = [learned[`${path}.weight`], started[`${path}.weight`]]
      const rest = whole.map((value, i) => value - (part[i] as number))
      const share = kept.get(path) as number
      expect(share).toBeLessThan(0.999)
      expect(squares(rest)).toBeCloseTo((1 - share) * squares(whole), 5)
      // Eckart and Young: a best approximation and its error are orthogonal.
      expect(rest.reduce((sum, value, i) => sum + value * (part[i] as number), 0)).toBeCloseTo(0, 5)
    }
  })

  it('falls with the rank to the singular values that are left', async () => {
    const shares = await Promise.all([1, 2, 3, 4].map(async (rank) => (await start(rank, 3)).kept.get('layers.0.up')))
    expect(shares).toEqual(shares.toSorted())
    const gains = shares.map((share, i) => (share ?? 0) - (shares[i - 1] ?? 0))
    expect(gains).toEqual(gains.toSorted((a, b) => b - a))
  })

  it('is refused for what is no first stage, and for a model that it is not of', async () => {
    const { base, tensors } = await firstStage()
    const lora: PeftSpec = { method: 'lora', rank: 2, alpha: 2, targets: ['up'], head: [], seed: 's' }
    const options = { rank: 2, alpha: 2 }
    expect(() => secondStage({ plan: lora, tensors }, base, options)).toThrowError(
      expect.objectContaining({ code: 'config/not-sparse' })
    )
    expect(() => secondStage({ plan: { ...sparse, density: 0.5 }, tensors }, base, options)).toThrowError(
      expect.objectContaining({ code: 'config/wrong-adapter' })
    )
    expect(() => secondStage({ plan: sparse, tensors }, base, { rank: 5, alpha: 2 })).toThrowError(
      expect.objectContaining({ code: 'config/rank-too-large' })
    )
  })
})
