import { describe, expect, it } from 'vitest'
import type { PeftSpec, TaskSpec } from '../../../src/base/federation.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import type { SessionTensor } from '../../../src/onnx/runtime/session.js'
import { createMethod } from '../../../src/peft/create-method.js'
import type { PeftMethod } from '../../../src/peft/method/method.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { evaluate, float, largestDifference, wave } from '../../onnx/small-graph.js'
import { smallModel, transpose, values } from '../small-model.js'

const task = (count: number): TaskSpec => ({
  kind: 'sequence-classification',
  labels: Array.from({ length: count }, (_, i) => `class ${i}`)
})
const lora = (overrides: Partial<Extract<PeftSpec, { method: 'lora' }>> = {}) =>
  ({
    method: 'lora',
    rank: 2,
    alpha: 3,
    targets: ['up', 'layers.0.down'],
    head: [],
    seed: 'a seed',
    ...overrides
  }) as const

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

describe('LoRA', () => {
  it('names and shapes are PEFT’s, in graph order', async () => {
    const { base } = await smallModel()
    expect(createMethod(lora(), base, task(3)).schema.entries.map(({ name, shape }) => [name, shape])).toEqual([
      ['layers.0.up.lora_A.weight', [2, 4]],
      ['layers.0.up.lora_B.weight', [6, 2]],
      ['layers.0.down.lora_A.weight', [2, 6]],
      ['layers.0.down.lora_B.weight', [4, 2]]
    ])
  })

  it('starts as the base model: A seeded within its bounds, B zero', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora(), base, task(3))
    const [a, b] = method.schema.entries.map((entry) => viewOf(method.initial, entry))
    const largest = Math.max(...Array.from(a ?? [], Math.abs))
    expect(largest).toBeLessThanOrEqual(1 / Math.sqrt(4))
    expect(largest).toBeGreaterThan(0.1)
    expect(b?.every((value) => value === 0)).toBe(true)
    const logits = await logitsOf(method.rewrite(canonical), feedsOf(method, method.initial))
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBe(0)
  })

  it('draws the same start from the same seed and another from another', async () => {
    const { base } = await smallModel()
    const start = (seed: string) => createMethod(lora({ seed }), base, task(3)).initial
    expect(start('one')).toEqual(start('one'))
    expect(start('one')).not.toEqual(start('two'))
  })

  it('computes what the base computes with the update merged into its weights', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora(), base, task(3))
    const parameters = values(method.schema.size, 7)
    const merged = new Map(canonical.initializers)
    for (const [path, inputs, outputs] of [
      ['layers.0.up', 4, 6],
      ['layers.0.down', 6, 4]
    ] as const) {
      const [a, b] = ['A', 'B'].map((part) => {
        const entry = method.schema.entries.find(({ name }) => name === `${path}.lora_${part}.weight`)
        return viewOf(parameters, entry as never)
      })
      const weight = merged.get(`${path}.weight`)
      const data = base.read(weight as never)
      for (let i = 0; i < inputs; i++)
        for (let o = 0; o < outputs; o++)
          for (let r = 0; r < 2; r++)
            data[i * outputs + o]! += 1.5 * (b?.[o * 2 + r] as number) * (a?.[r * inputs + i] as number)
      merged.set(`${path}.weight`, { ...weight, data: { kind: 'inline', bytes: new Uint8Array(data.buffer) } } as never)
    }
    const reference = await logitsOf({ ...canonical, initializers: merged }, { x })
    const logits = await logitsOf(method.rewrite(canonical), feedsOf(method, parameters))
    expect(largestDifference(logits, reference)).toBeLessThan(2e-5)
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBeGreaterThan(0.1)
  })

  it('says what the model has when a target means nothing', async () => {
    const { base } = await smallModel()
    expect(() => createMethod(lora({ targets: ['query'] }), base, task(3))).toThrowError(
      expect.objectContaining({
        code: 'config/no-such-module',
        facts: { name: 'query', available: ['layers.0.up', 'layers.0.down', 'classifier'] }
      })
    )
    // `own` ends `down`, but not at a dot.
    expect(() => createMethod(lora({ targets: ['own'] }), base, task(3))).toThrowError(/no linear layer called own/)
  })
})

describe('a head', () => {
  it('of the base’s width starts from the base, whole and in its own layout', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora({ targets: ['up'], head: ['classifier'] }), base, task(3))
    const names = method.schema.entries.map(({ name }) => name)
    expect(names.slice(2)).toEqual(['classifier.weight', 'classifier.bias'])
    expect(viewOf(method.initial, method.schema.entries[2] as never)).toEqual(values(12, 120))
    const logits = await logitsOf(method.rewrite(canonical), feedsOf(method, method.initial))
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBeLessThan(1e-6)
  })

  it('of another width is fresh, seeded, and gives the logits that width', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora({ targets: ['up'], head: ['classifier'] }), base, task(5))
    const rewritten = method.rewrite(canonical)
    expect(rewritten.outputs).toEqual([{ name: 'logits', type: 'float32', shape: [2, 5] }])
    const logits = await logitsOf(rewritten, feedsOf(method, method.initial))
    expect(logits?.shape).toEqual([2, 5])
    const weight = viewOf(method.initial, method.schema.entries[2] as never)
    expect(Math.max(...Array.from(weight, Math.abs))).toBeLessThanOrEqual(0.5)
    expect(new Set(weight).size).toBeGreaterThan(15)
  })

  it('that is no last layer trains whole and keeps its width', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora({ targets: ['up'], head: ['down', 'classifier'] }), base, task(5))
    const shapes = Object.fromEntries(method.schema.entries.map(({ name, shape }) => [name, shape]))
    expect(shapes).toMatchObject({ 'layers.0.down.weight': [4, 6], 'classifier.weight': [5, 4] })
    expect(method.rewrite(canonical).outputs).toEqual([{ name: 'logits', type: 'float32', shape: [2, 5] }])
  })

  it('whose logits go through more operators cannot change their number', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod(lora({ targets: ['up'], head: ['classifier'] }), base, task(5))
    const capped = { op: 'Tanh', domain: '', name: 'cap', inputs: ['logits'], outputs: ['capped'], attributes: {} }
    const info = { name: 'capped', type: 'float32', shape: [2, 3] } as const
    const graph = {
      ...canonical,
      nodes: [...canonical.nodes, capped],
      outputs: [info],
      values: new Map([...canonical.values, ['capped', info]])
    }
    expect(() => method.rewrite(graph)).toThrowError(expect.objectContaining({ code: 'config/head-not-last' }))
  })
})

describe('full training', () => {
  it('has every weight as Hugging Face stores it, and starts as the base model', async () => {
    const { base, canonical } = await smallModel()
    const method = createMethod({ method: 'full', seed: '' }, base, task(3))
    expect(method.schema.entries.map(({ name, shape }) => [name, shape])).toEqual([
      ['layers.0.up.weight', [6, 4]],
      ['layers.0.down.weight', [6, 4]],
      ['layers.0.down.bias', [4]],
      ['classifier.weight', [3, 4]],
      ['classifier.bias', [3]]
    ])
    expect(viewOf(method.initial, method.schema.entries[0] as never)).toEqual(transpose(values(24), 4, 6))
    const rewritten = method.rewrite(canonical)
    const logits = await logitsOf(rewritten, feedsOf(method, method.initial))
    expect(largestDifference(logits, await logitsOf(canonical, { x }))).toBeLessThan(1e-6)
  })
})
