import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PeftPlan, TaskSpec } from '../../src/base/federation.js'
import { exportAdapter } from '../../src/node/trained/export-adapter.js'
import { writeMergedModel } from '../../src/node/trained/merged-model.js'
import { openForward } from '../../src/node/trained/open-forward.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { parametersFrom, readAdapterFolder } from '../../src/peft/files/adapter-format.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'

const golden = fileURLToPath(new URL('../golden/conformance', import.meta.url))
const bert: TaskSpec = { kind: 'sequence-classification', labels: ['0', '1', '2'] }
const vit: TaskSpec = { kind: 'image-classification', labels: ['0', '1', '2', '3', '4'] }
const llama: TaskSpec = { kind: 'causal-lm' }
const common = { head: [], seed: 'a seed' }
const targets = ['query', 'value', 'output.dense']
const lowRank = { rank: 4, alpha: 6, targets, ...common }

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-merged-'))
})
afterAll(() => rm(folder, { recursive: true }))

const tensorsOf = async (path: string) => readSafetensors(await readFile(path), path)

async function inputsOf(directory: string): Promise<Record<string, SessionTensor>> {
  const inputs: Record<string, SessionTensor> = {}
  for (const [name, entry] of await tensorsOf(join(directory, 'inputs.safetensors')))
    if (name !== 'labels')
      inputs[name] =
        entry.type === 'F32'
          ? { type: 'float32', shape: entry.shape, data: Float32Array.from(floatsOf(entry, name)) }
          : { type: 'int64', shape: entry.shape, data: intsOf(entry, name) }
  return inputs
}

async function planOf(adapter: string, method: string): Promise<PeftPlan> {
  if (method === 'bitfit') return { method: 'bitfit', targets: [], head: [], seed: '' }
  return (await readAdapterFolder(adapter)).plan
}

async function load(model: string, method: string, task: TaskSpec) {
  const directory = join(golden, model)
  const adapter = join(directory, method, 'adapter')
  const spec = { modelPath: join(directory, 'model.onnx'), task, peft: await planOf(adapter, method) }
  const adapted = await loadAdaptedModel(spec, { weightsDir: folder })
  const tensors = await tensorsOf(join(adapter, 'adapter_model.safetensors'))
  return { directory, spec, adapted, tensors, parameters: parametersFrom(tensors, adapted.method.schema) }
}

describe('a merged model computes what PyTorch computes with the adapter', () => {
  it.each([
    ['bert-torchscript', 'lora', bert],
    ['bert-torchscript', 'rslora', bert],
    ['bert-torchscript', 'dora', bert],
    ['bert-torchscript', 'ia3', bert],
    ['bert-torchscript', 'bitfit', bert],
    ['bert-torchscript', 'lntuning', bert],
    ['vit-torchscript', 'lora', vit],
    ['gpt2-dynamo', 'lora', llama],
    ['llama-dynamo', 'dora', llama],
    ['llama-dynamo', 'ia3', llama]
  ])('%s, %s', async (model, method, task) => {
    const { directory, adapted, parameters } = await load(model, method, task)
    const path = join(folder, `${model}-${method}.onnx`)
    await writeMergedModel(path, adapted, parameters)
    const inputs = await inputsOf(directory)
    const session = await createSession(await readFile(path))
    const { logits } = await session.run(inputs)
    await session.release()
    const expected = (await tensorsOf(join(directory, method, 'expected.safetensors'))).get('logits')
    if (expected === undefined || logits === undefined) throw new Error('there are no logits')
    expect(logits.shape).toEqual(expected.shape)
    const mask = task.kind === 'causal-lm' ? inputs.attention_mask?.data : undefined
    const classes = expected.shape.at(-1) as number
    const reference = floatsOf(expected, 'logits')
    const worst = Array.from(logits.data).reduce((max, value, index) => {
      const counts = mask === undefined || mask[Math.floor(index / classes)] === 1
      return counts ? Math.max(max, Math.abs(value - (reference[index] as number))) : max
    }, 0)
    expect(worst).toBeLessThan(1e-4)
  })

  it('prompts are no weights', async () => {
    const { adapted, parameters } = await load('bert-torchscript', 'prompt', bert)
    await expect(writeMergedModel(join(folder, 'no.onnx'), adapted, parameters)).rejects.toMatchObject({
      code: 'config/cannot-merge'
    })
  })
})

/** Methods that PyTorch's golden values do not have, and combinations. */
const OTHERS: Readonly<Record<string, PeftPlan>> = {
  'ffa-lora': { method: 'ffa-lora', ...lowRank },
  'lora from singular values': { method: 'lora', ...lowRank, start: 'svd' },
  'lora with ranks': { method: 'lora', ...lowRank, ranks: { 'layer.1': 2 } },
  'lora-xs': { method: 'lora-xs', ...lowRank, heads: 1 },
  ravan: { method: 'ravan', ...lowRank, heads: 2 },
  'sparse, random': { method: 'sparse', targets, density: 0.1, mask: 'random', ...common },
  'sparse, by magnitude': { method: 'sparse', targets, density: 0.1, mask: 'magnitude', ...common },
  partial: { method: 'partial', targets: [], lastLayers: 1, ...common },
  full: { method: 'full', seed: 'a seed' },
  'lora, bitfit and norms': [
    { method: 'lora', ...lowRank },
    { method: 'bitfit', targets: [], ...common },
    { method: 'layernorm', targets: [], ...common }
  ]
}

describe('a merged model computes what base and adapter compute', () => {
  it.each(Object.entries(OTHERS))('%s', async (name, peft) => {
    const directory = join(golden, 'bert-torchscript')
    const spec = { modelPath: join(directory, 'model.onnx'), task: bert, peft }
    const adapted = await loadAdaptedModel(spec, { weightsDir: folder })
    const parameters = adapted.method.initial.map((value, index) => value + 0.05 * Math.sin(1.3 * index))
    const forward = await openForward({ adapted, parameters, device: 'cpu', threads: 1 })
    const inputs = await inputsOf(directory)
    const expected = await forward.run(inputs)
    await forward.close()
    const path = join(folder, `${name}.onnx`)
    await writeMergedModel(path, adapted, parameters)
    // No graph of ours: plain bytes in onnxruntime, with all of its own optimisations.
    const [merged, plain] = await Promise.all(
      [path, spec.modelPath].map(async (file) => createSession(await readFile(file), { optimization: 'all' }))
    )
    const distance = async (session: typeof merged) => {
      const { logits } = (await session?.run(inputs)) ?? {}
      await session?.release()
      return expected.data.reduce((max, value, i) => Math.max(max, Math.abs(value - (logits?.data[i] as number))), 0)
    }
    expect(await distance(merged)).toBeLessThan(1e-4)
    expect(await distance(plain)).toBeGreaterThan(1e-3)
  })

  it.each([
    ['prefix', 'gpt2-dynamo', { method: 'prefix', tokens: 3, ...common }],
    [
      'bottleneck',
      'bert-torchscript',
      { method: 'bottleneck', placement: 'pfeiffer', targets: [], width: 4, activation: 'gelu', ...common }
    ]
  ] as const)('%s is no weight', async (name, model, peft) => {
    const task = model === 'gpt2-dynamo' ? llama : bert
    const spec = { modelPath: join(golden, model, 'model.onnx'), task, peft }
    const adapted = await loadAdaptedModel(spec, { weightsDir: folder })
    await expect(writeMergedModel(join(folder, `${name}.onnx`), adapted, adapted.method.initial)).rejects.toMatchObject(
      {
        code: 'config/cannot-merge'
      }
    )
  })
})

describe('an adapter that PEFT saved, imported and exported', () => {
  it.each([
    ['bert-torchscript', 'ia3', bert],
    ['bert-torchscript', 'prompt', bert],
    ['llama-dynamo', 'prefix', llama],
    ['gpt2-dynamo', 'prefix', llama]
  ])('is the same file: %s, %s', async (model, method, task) => {
    const { directory, spec, adapted, tensors, parameters } = await load(model, method, task)
    const out = join(folder, `${model}-${method}`)
    await exportAdapter(out, { ...spec, schema: adapted.method.schema, parameters }, { weightsDir: folder })
    const written = await readAdapterFolder(out)
    expect([...written.tensors]).toEqual([...tensors])
    const original = await readAdapterFolder(join(directory, method, 'adapter'))
    const fields = ['peft_type', 'num_virtual_tokens', 'num_transformer_submodules', 'num_attention_heads'] as const
    for (const field of fields) expect(written.config[field]).toEqual(original.config[field])
  })
})
