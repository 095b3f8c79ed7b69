import { describe, expect, it } from 'vitest'
import type { PeftSpec } from '../../../src/base/peft-spec.js'
import { createMethod } from '../../../src/peft/create-method.js'
import { asOneLora } from '../../../src/peft/methods/dual.js'
import type { NamedTensor, PeftMethod } from '../../../src/peft/method/method.js'
import { isPrivateName, partOf } from '../../../src/peft/method/private.js'
import { sharedPart } from '../../../src/node/config/shared-part.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { evaluate, float, largestDifference, wave } from '../../onnx/small-graph.js'
import { smallModel, values } from '../small-model.js'

const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const common = { head: [], seed: 'a seed' }
const shared: PeftSpec = { method: 'lora', rank: 2, alpha: 3, targets: ['up', 'layers.0.down'], ...common }
const own: PeftSpec = { method: 'rslora', rank: 3, alpha: 2, targets: ['up'], private: true, ...common }
const plan = [shared, own]
const x = float([2, 3, 4], wave)

async function setUp(spec: PeftSpec | readonly PeftSpec[]) {
  const { base, canonical } = await smallModel({ smooth: true })
  return { canonical, method: createMethod(spec, base, task) }
}

function load({ schema }: PeftMethod, tensors: readonly NamedTensor[]): Float32Array {
  const vector = new Float32Array(schema.size)
  expect(tensors.map(({ name }) => name).toSorted()).toEqual(schema.entries.map(({ name }) => name).toSorted())
  for (const entry of schema.entries) {
    const tensor = tensors.find(({ name }) => name === entry.name)
    expect(tensor?.shape).toEqual(entry.shape)
    vector.set(tensor?.values ?? [], entry.offset)
  }
  return vector
}

async function logits(spec: PeftSpec | readonly PeftSpec[], parametersOf: (method: PeftMethod) => Float32Array) {
  const { canonical, method } = await setUp(spec)
  const parameters = parametersOf(method)
  const feeds = method.schema.entries.map((entry) => [
    entry.name,
    { type: 'float32' as const, shape: entry.shape, data: viewOf(parameters, entry) }
  ])
  return (await evaluate(method.rewrite(canonical), { x, ...Object.fromEntries(feeds) })).logits
}

const trained = ({ schema }: PeftMethod): Float32Array => values(schema.size, 7)

describe('a shared and a private adapter', () => {
  it('are one LoRA of both ranks, for a file', async () => {
    const { method } = await setUp(plan)
    const one = asOneLora({ plan, tensors: method.exported(trained(method)) })
    if (one === undefined || !('method' in one.plan) || one.plan.method !== 'lora') throw new Error('not a LoRA')
    expect(one.plan).toMatchObject({ rank: 5, alpha: 5 })
    // Where only the shared one is, the file has its rank alone.
    const spec = { ...one.plan, ranks: { 'layers.0.down': 2 } }
    const together = await logits(plan, trained)
    const asOne = await logits(spec, (lora) => load(lora, one.tensors))
    expect(largestDifference(together, asOne)).toBeLessThan(1e-5)
  })

  it.each([
    ['shared', shared],
    ['private', { ...own, private: false }]
  ] as const)('can be written singly: %s', async (part, spec) => {
    const { method } = await setUp(plan)
    const parameters = trained(method)
    const alone = partOf({ plan, tensors: method.exported(parameters) }, part)
    const { private: _private, ...open } = { private: undefined, ...spec }
    expect(alone.plan).toEqual(open)
    // The other one without effect: its B is zero.
    const silenced = parameters.slice()
    for (const entry of method.schema.entries)
      if (entry.name.includes('lora_B') && isPrivateName(entry.name) === (part === 'shared'))
        viewOf(silenced, entry).fill(0)
    const expected = await logits(plan, () => silenced)
    const got = await logits(alone.plan, (lora) => load(lora, alone.tensors))
    expect(largestDifference(expected, got)).toBeLessThan(1e-5)
  })

  it('has no form as one LoRA beside other methods', async () => {
    const more = [...plan, { method: 'bitfit', targets: [], ...common } as const]
    const { method } = await setUp(more)
    expect(asOneLora({ plan: more, tensors: method.exported(method.initial) })).toBeUndefined()
  })

  it('exchanges the shared one only, whatever `share` says', async () => {
    const { method } = await setUp(plan)
    const names = (share?: readonly string[]): string[] =>
      sharedPart({ peft: plan, ...(share && { share }) }, method.schema).schema.entries.map(({ name }) => name)
    expect(names()).toEqual([
      'layers.0.up.lora_A.weight',
      'layers.0.up.lora_B.weight',
      'layers.0.down.lora_A.weight',
      'layers.0.down.lora_B.weight'
    ])
    expect(names(['lora_A'])).toEqual(['layers.0.up.lora_A.weight', 'layers.0.down.lora_A.weight'])
    expect(() => names(['private'])).toThrowError(expect.objectContaining({ code: 'config/nothing-shared' }))
    expect(() => sharedPart({ peft: own }, method.schema)).not.toThrow()
  })

  it('needs something to share', async () => {
    const { method } = await setUp(own)
    expect(() => sharedPart({ peft: own }, method.schema)).toThrowError(
      expect.objectContaining({ code: 'config/nothing-shared' })
    )
  })
})
