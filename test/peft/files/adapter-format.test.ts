import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { specsOf } from '../../../src/base/peft-spec.js'
import { specFromConfig } from '../../../src/peft/files/adapter-config.js'
import { parametersFrom, readAdapterFolder, writeAdapter } from '../../../src/peft/files/adapter-format.js'
import { plainForm } from '../../../src/peft/files/plain-form.js'
import { parameterName } from '../../../src/peft/files/adapter-keys.js'
import { floatsOf, readSafetensors } from '../../../src/tensor/safetensors.js'
import { createSchema } from '../../../src/tensor/schema.js'

const golden = fileURLToPath(new URL('../../golden/conformance', import.meta.url))
/** Written by PEFT itself. */
const adapter = join(golden, 'bert-torchscript/lora/adapter')

const readBack = async (directory: string) => {
  const tensors = readSafetensors(await readFile(join(directory, 'adapter_model.safetensors')))
  const config = JSON.parse(await readFile(join(directory, 'adapter_config.json'), 'utf8')) as Record<string, unknown>
  return { tensors, config }
}

describe('a PEFT adapter folder', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'peertune-adapter-'))
  })
  afterAll(() => rm(directory, { recursive: true }))

  it.each([
    ['bert-torchscript/lora', { method: 'lora', rank: 4, alpha: 8, head: ['classifier'] }],
    ['bert-torchscript/rslora', { method: 'rslora', rank: 4, alpha: 8, head: ['classifier'] }],
    ['bert-torchscript/dora', { method: 'dora', rank: 4, alpha: 8, head: ['classifier'] }],
    ['bert-torchscript/ia3', { method: 'ia3', head: ['classifier'] }],
    ['bert-torchscript/lntuning', { method: 'layernorm', head: ['classifier'] }],
    ['bert-torchscript/prompt', { method: 'prompt', tokens: 4, head: ['classifier'] }],
    ['gpt2-dynamo/prefix', { method: 'prefix', tokens: 4, head: [] }],
    ['llama-dynamo/dora', { method: 'dora', head: [] }],
    ['llama-dynamo/prompt', { method: 'prompt', tokens: 4, head: [] }]
  ])('of PEFT, read, written and read again is the same: %s', async (name, spec) => {
    const { plan, tensors, config } = await readAdapterFolder(join(golden, name, 'adapter'))
    expect(plan).toMatchObject(spec)
    const named = Array.from(tensors, ([key, entry]) => ({
      name: parameterName(key),
      shape: entry.shape,
      values: Float32Array.from(floatsOf(entry, key))
    }))
    const out = join(directory, name)
    const taskType = config.task_type as 'SEQ_CLS' | 'CAUSAL_LM'
    const attentionHeads = config.num_attention_heads as number | undefined
    await writeAdapter(out, { tensors: named.toReversed(), plan, taskType, attentionHeads })
    const written = await readAdapterFolder(out)
    expect([...written.tensors]).toEqual([...tensors])
    expect(written.plan).toEqual(plan)
    const fields = ['peft_type', 'task_type', 'r', 'lora_alpha', 'num_virtual_tokens', 'num_attention_heads'] as const
    for (const field of fields) expect(written.config[field]).toEqual(config[field])
    for (const flag of ['use_dora', 'use_rslora']) expect(written.config[flag] ?? false).toBe(config[flag] ?? false)
    const schema = createSchema(named)
    expect(parametersFrom((await readAdapterFolder(out)).tensors, schema)).toEqual(parametersFrom(tensors, schema))
  })

  it('names target modules by their whole path, feed-forward ones among them', async () => {
    const { config } = await readBack(join(directory, 'bert-torchscript/ia3'))
    const targets = config.target_modules as string[]
    expect(targets).toHaveLength(8)
    expect(targets).toContain('bert.encoder.layer.0.attention.self.key')
    expect((config.feedforward_modules as string[]).toSorted()).toEqual(
      [0, 1].flatMap((layer) => [
        `bert.encoder.layer.${layer}.attention.output.dense`,
        `bert.encoder.layer.${layer}.output.dense`
      ])
    )
  })

  it('keeps ranks of single modules', async () => {
    const tensors = [
      { name: 'a.up.lora_A.weight', shape: [3, 2], values: new Float32Array(6) },
      { name: 'a.up.lora_B.weight', shape: [4, 3], values: new Float32Array(12) },
      { name: 'a.down.lora_A.weight', shape: [2, 4], values: new Float32Array(8) },
      { name: 'a.down.lora_B.weight', shape: [2, 2], values: new Float32Array(4) }
    ]
    const ranks = { 'a.down': 2 }
    const plan = { method: 'lora', rank: 3, alpha: 6, ranks, targets: ['a.up', 'a.down'], head: [], seed: 's' } as const
    const out = join(directory, 'ranks')
    await writeAdapter(out, { tensors, plan })
    const written = await readAdapterFolder(out)
    expect(written.config.rank_pattern).toEqual(ranks)
    expect(written.plan).toMatchObject({ rank: 3, ranks })
  })

  it('of a method that PEFT has not carries its own plan', async () => {
    const plan = [
      { method: 'bitfit', targets: [], head: [], seed: 's' },
      { method: 'layernorm', targets: [], head: [], seed: 's' }
    ] as const
    const out = join(directory, 'both')
    const tensors = [{ name: 'a.bias', shape: [2], values: Float32Array.of(0.5, 3) }]
    await writeAdapter(out, { tensors, plan })
    const written = await readAdapterFolder(out)
    expect(specsOf(written.plan)).toEqual(plan)
    expect(parametersFrom((await readAdapterFolder(out)).tensors, createSchema(tensors))).toEqual(
      Float32Array.of(0.5, 3)
    )
  })

  it('must name the tensors of the schema, no more and no fewer, with their shapes', async () => {
    const { tensors } = await readBack(adapter)
    const names = Array.from(tensors, ([key, { shape }]) => ({ name: key.replace('base_model.model.', ''), shape }))
    expect(() => parametersFrom(tensors, createSchema(names.slice(1)))).toThrowError(
      expect.objectContaining({ code: 'config/wrong-adapter', facts: { missing: [], unknown: [names[0]?.name] } })
    )
    expect(() => parametersFrom(tensors, createSchema([...names, { name: 'more', shape: [2] }]))).toThrowError(
      expect.objectContaining({ facts: { missing: ['more'], unknown: [] } })
    )
    const wrong = names.map(({ name, shape }) => ({ name, shape: shape.toReversed() }))
    expect(() => parametersFrom(tensors, createSchema(wrong))).toThrowError(/has shape/)
  })

  it('may hold frozen tensors, if they are what they are here', async () => {
    const { tensors } = await readBack(adapter)
    const [first, ...rest] = Array.from(tensors, ([key, entry]) => ({
      name: parameterName(key),
      shape: entry.shape,
      values: Float32Array.from(floatsOf(entry, key))
    }))
    if (first === undefined) throw new Error('the golden adapter is empty')
    expect(parametersFrom(tensors, createSchema(rest), [first])).toHaveLength(
      rest.reduce((size, { values }) => size + values.length, 0)
    )
    const other = { ...first, values: first.values.map((value) => value + 1) }
    expect(() => parametersFrom(tensors, createSchema(rest), [other])).toThrowError(
      expect.objectContaining({ code: 'config/wrong-adapter' })
    )
  })

  it('a folder without one says what is expected there', async () => {
    await expect(readAdapterFolder(join(directory, 'none'))).rejects.toMatchObject({
      code: 'config/no-adapter'
    })
  })

  it('a pickle is refused, with the way out', async () => {
    const folder = await mkdtemp(join(directory, 'pickle-'))
    await writeFile(join(folder, 'adapter_model.bin'), 'not read')
    await expect(readAdapterFolder(folder)).rejects.toMatchObject({
      code: 'config/pickled-adapter',
      hint: expect.stringContaining('save_pretrained')
    })
  })

  it.each(['pissa', 'pissa_niter_4', 'olora', 'loftq'])(
    'refuses factors that go with other base weights: %s',
    (start) => {
      expect(() =>
        plainForm({ config: { peft_type: 'LORA', init_lora_weights: start }, tensors: new Map() })
      ).toThrowError(
        expect.objectContaining({
          code: 'config/unsupported-adapter',
          hint: expect.stringContaining('path_initial_model_for_weight_conversion')
        })
      )
    }
  )

  it('says so of an embedding that has an adapter', () => {
    const tensors = [['base_model.model.emb.lora_embedding_A', { shape: [2, 9] }]] as const
    expect(() => specFromConfig({ peft_type: 'LORA', r: 2, lora_alpha: 4 }, tensors)).toThrowError(/embedding/)
  })

  it.each([
    { peft_type: 'VERA' },
    { peft_type: 'LORA', lora_bias: true },
    { peft_type: 'LORA', bias: 'all' },
    { peft_type: 'LORA', trainable_token_indices: [1, 2] },
    { peft_type: 'LOHA' },
    { peft_type: 'PREFIX_TUNING', prefix_projection: true }
  ])('refuses kinds it does not train: %j', (config) => {
    expect(() => specFromConfig(config, [])).toThrowError(
      expect.objectContaining({ code: 'config/unsupported-adapter' })
    )
  })
})
