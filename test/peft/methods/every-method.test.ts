import { describe, expect, it } from 'vitest'
import { attachLoss, LABELS, LOSS } from '../../../src/autodiff/loss.js'
import { differentiate, gradientName } from '../../../src/autodiff/backward.js'
import type { PeftPlan, PeftSpec } from '../../../src/base/peft-spec.js'
import { seededRng } from '../../../src/base/rng.js'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import type { SessionTensor } from '../../../src/onnx/runtime/session.js'
import { peftEquivalent } from '../../../src/peft/files/adapter-config.js'
import { createMethod } from '../../../src/peft/create-method.js'
import { METHODS } from '../../../src/peft/methods.js'
import type { PeftMethod } from '../../../src/peft/method/method.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { evaluate, float, largestDifference, wave } from '../../onnx/small-graph.js'
import { smallModel } from '../small-model.js'

const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const common = { head: [], seed: 'a seed' }
const targets = ['up', 'layers.0.down']
const lowRank = { rank: 2, alpha: 3, targets, ...common }

const PLANS: Readonly<Record<string, PeftPlan>> = {
  lora: { method: 'lora', ...lowRank },
  'lora with ranks': { method: 'lora', ...lowRank, ranks: { 'layers.*.down': 1 } },
  'lora from singular values': { method: 'lora', ...lowRank, start: 'svd' },
  rslora: { method: 'rslora', ...lowRank },
  'rslora from singular values': { method: 'rslora', ...lowRank, start: 'svd' },
  'lora, one factor at a time': { method: 'lora', ...lowRank, alternate: { every: 2 } },
  'lora, private': { method: 'lora', ...lowRank, private: true },
  dora: { method: 'dora', ...lowRank },
  'ffa-lora': { method: 'ffa-lora', ...lowRank },
  'lora-xs': { method: 'lora-xs', ...lowRank, heads: 1 },
  ravan: { method: 'ravan', ...lowRank, heads: 2 },
  ia3: { method: 'ia3', targets, feedforward: ['down'], ...common },
  bitfit: { method: 'bitfit', targets: [], ...common },
  'partial, last layer': { method: 'partial', targets: [], lastLayers: 1, ...common },
  'partial, by name': { method: 'partial', targets: ['classifier', 'down'], lastLayers: 0, ...common },
  'sparse, random': { method: 'sparse', targets, density: 0.3, mask: 'random', ...common },
  'sparse, by magnitude': { method: 'sparse', targets, density: 0.3, mask: 'magnitude', ...common },
  'sparse, by Fisher': {
    method: 'sparse',
    targets,
    density: 0.3,
    mask: 'fisher',
    maskSha256: 'f'.repeat(64),
    ...common
  },
  'lora with a head': { method: 'lora', ...lowRank, head: ['classifier'] },
  full: { method: 'full', seed: 'a seed' },
  'lora and bitfit': [
    { method: 'lora', ...lowRank },
    { method: 'bitfit', targets: [], ...common }
  ],
  'a shared and a private lora': [
    { method: 'lora', ...lowRank },
    { method: 'rslora', ...lowRank, rank: 1, targets: ['up'], private: true }
  ],
  'shared cores and a private lora': [
    { method: 'ravan', ...lowRank, heads: 2 },
    { method: 'lora', ...lowRank, private: true }
  ]
}
const NOT_MERGEABLE: Readonly<Record<string, PeftPlan>> = {
  bottleneck: { method: 'bottleneck', placement: 'pfeiffer', targets, width: 3, activation: 'gelu', ...common }
}
const ALL = { ...PLANS, ...NOT_MERGEABLE }

const x = float([2, 3, 4], wave)

const feedsOf = ({ schema }: PeftMethod, parameters: Float32Array): Record<string, SessionTensor> => ({
  x,
  ...Object.fromEntries(
    schema.entries.map((entry) => [
      entry.name,
      { type: 'float32', shape: entry.shape, data: viewOf(parameters, entry) }
    ])
  )
})

const logitsOf = async (graph: Graph, feeds: Record<string, SessionTensor>) => (await evaluate(graph, feeds)).logits

/** Away from the start, where zeros would hide mistakes. */
function elsewhere({ initial }: PeftMethod, salt = 'elsewhere'): Float32Array {
  const rng = seededRng(salt)
  return initial.map((value) => value + 0.8 * (rng.uniform() - 0.5))
}

async function setUp(plan: PeftPlan) {
  const { base, canonical } = await smallModel({ smooth: true })
  const method = createMethod(plan, base, task)
  return { base, canonical, method, adapted: method.rewrite(canonical) }
}

describe.each(Object.entries(ALL))('%s', (_, plan) => {
  it('starts as the base model, the same on every peer', async () => {
    const { base, canonical, method, adapted } = await setUp(plan)
    const logits = await logitsOf(adapted, feedsOf(method, method.initial))
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBeLessThan(2e-6)
    expect(createMethod(plan, base, task).initial).toEqual(method.initial)
    expect(method.schema.size).toBeGreaterThan(0)
  })

  it('has the gradients that differences of its loss tell', async () => {
    const { method, adapted } = await setUp(plan)
    const parameters = elsewhere(method)
    const labels: SessionTensor = { type: 'int64', shape: [2], data: Int32Array.of(2, 0) }
    const { graph, loss, seeds } = attachLoss(adapted)
    const names = method.schema.entries.map(({ name }) => name)
    const training = differentiate(graph, { loss, seeds, parameters: names, constants: method.detached })
    const results = await evaluate(training, { ...feedsOf(method, parameters), [LABELS]: labels })
    const lossAt = async (at: Float32Array): Promise<number> => {
      const { [LOSS]: value } = await evaluate(training, { ...feedsOf(method, at), [LABELS]: labels })
      return value?.data[0] as number
    }
    // DoRA's gradient leaves the norm's derivative out on purpose: only what the norm does not depend on can be compared.
    const compared = names.filter((name) => method.detached.length === 0 || name.includes('magnitude'))
    const rng = seededRng('direction')
    const direction = parameters.map(() => 0)
    for (const entry of method.schema.entries)
      if (compared.includes(entry.name))
        viewOf(direction, entry).set(Array.from({ length: entry.size }, () => rng.uniform() - 0.5))
    const slope = method.schema.entries.reduce((sum, entry) => {
      const gradient = results[gradientName(entry.name)]?.data as Float32Array
      return (
        sum + viewOf(direction, entry).reduce((part, value, index) => part + value * (gradient[index] as number), 0)
      )
    }, 0)
    const step = 0.04
    const moved = (times: number) =>
      parameters.map((value, index) => value + times * step * (direction[index] as number))
    const [a, b, c, d] = await Promise.all([lossAt(moved(-2)), lossAt(moved(-1)), lossAt(moved(1)), lossAt(moved(2))])
    expect((a - 8 * b + 8 * c - d) / (12 * step)).toBeCloseTo(slope, 4)
    expect(Math.abs(slope)).toBeGreaterThan(1e-3)
  })
})

describe.each(Object.entries(PLANS))('%s', (_, plan) => {
  it('computes what the base computes with other weights', async () => {
    const { canonical, method, adapted } = await setUp(plan)
    const parameters = elsewhere(method)
    const merged = method.merge(parameters)
    if (merged === undefined) throw new Error('it cannot be merged')
    const initializers = new Map(canonical.initializers)
    for (const [name, { values, shape }] of merged) initializers.set(name, floatConstant(name, values, shape))
    const reference = await logitsOf({ ...canonical, initializers }, { x })
    const logits = await logitsOf(adapted, feedsOf(method, parameters))
    expect(largestDifference(logits, reference)).toBeLessThan(2e-5)
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBeGreaterThan(0.01)
  })
})

it('two methods on one layer are refused', async () => {
  const plan: PeftPlan = [
    { method: 'lora', ...lowRank },
    { method: 'ia3', targets: ['down'], feedforward: [], ...common }
  ]
  await expect(setUp(plan)).rejects.toMatchObject({
    code: 'config/module-twice',
    facts: { module: 'layers.0.down' }
  })
})

it('of two adapters that add to one layer, one must be private', async () => {
  const one: PeftPlan = { method: 'lora', ...lowRank }
  const other: PeftPlan = { method: 'rslora', ...lowRank, targets: ['down'] }
  await expect(setUp([one, other])).rejects.toMatchObject({ code: 'config/module-twice' })
  await expect(setUp([one, { ...other, private: true }])).resolves.toBeDefined()
  const own: PeftPlan = { ...other, private: true }
  await expect(setUp([one, own, { ...own, rank: 1 }])).rejects.toMatchObject({ code: 'config/module-twice' })
  await expect(setUp([{ method: 'dora', ...lowRank }, own])).rejects.toMatchObject({ code: 'config/module-twice' })
})

it('nothing can be merged that is more than other weights', async () => {
  const { method } = await setUp(NOT_MERGEABLE.bottleneck as PeftPlan)
  expect(method.merge(method.initial)).toBeUndefined()
})

describe('what PEFT loads as plain LoRA computes the same', () => {
  it.each(['ffa-lora', 'lora-xs', 'ravan', 'lora from singular values', 'rslora from singular values'])(
    '%s',
    async (name) => {
      const plan = PLANS[name] as PeftSpec
      const { base, canonical, method, adapted } = await setUp(plan)
      const parameters = elsewhere(method)
      const exported = method.exported(parameters)
      const lora = createMethod(peftEquivalent(plan), base, task)
      expect(exported.map(({ name: tensor }) => tensor).toSorted()).toEqual(
        lora.schema.entries.map((entry) => entry.name).toSorted()
      )
      const loaded = new Float32Array(lora.schema.size)
      for (const entry of lora.schema.entries) {
        const tensor = exported.find((one) => one.name === entry.name)
        expect(tensor?.shape).toEqual(entry.shape)
        loaded.set(tensor?.values ?? [], entry.offset)
      }
      const logits = await logitsOf(adapted, feedsOf(method, parameters))
      const asLora = await logitsOf(lora.rewrite(canonical), feedsOf(lora, loaded))
      expect(largestDifference(logits, asLora)).toBeLessThan(2e-5)
    }
  )
})

describe('mixing', () => {
  const weightsAt = (method: PeftMethod, parameters: Float32Array) =>
    Array.from(method.merge(parameters) ?? []).flatMap(([, { values }]) => [...values])

  it.each(Object.entries(PLANS).filter(([, plan]) => 'method' in plan))(
    '%s: the mean of parameters is the mean of weights where the table says linear',
    async (_, plan) => {
      const { method } = await setUp(plan)
      const [a, b] = [elsewhere(method, 'one'), elsewhere(method, 'other')]
      const middle = a.map((value, index) => 0.25 * value + 0.75 * (b[index] as number))
      const [first, second, mean] = [a, b, middle].map((at) => weightsAt(method, at))
      const error = (mean ?? []).reduce((worst, value, i) => {
        const expected = 0.25 * (first?.[i] as number) + 0.75 * (second?.[i] as number)
        return Math.max(worst, Math.abs(value - expected))
      }, 0)
      const { linear } = METHODS[(plan as PeftSpec).method]
      if (linear) expect(error).toBeLessThan(1e-6)
      else expect(error).toBeGreaterThan(1e-3)
    }
  )
})
