import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parametersFrom, readAdapter, specFromConfig, writeAdapter } from '../../src/peft/adapter-format.js'
import { readSafetensors } from '../../src/tensor/safetensors.js'
import { createSchema } from '../../src/tensor/schema.js'

/** Written by PEFT itself. */
const adapter = fileURLToPath(new URL('../golden/conformance/bert-torchscript/lora/adapter', import.meta.url))

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

  it('read, written and read again is the same', async () => {
    const { tensors, config } = await readBack(adapter)
    const spec = specFromConfig(config, [...tensors.keys()])
    expect(spec).toMatchObject({ rank: 4, alpha: 8, head: ['classifier'] })
    const names = Array.from(tensors, ([key, { shape }]) => ({ name: key.replace('base_model.model.', ''), shape }))
    const schema = createSchema(names.toReversed())
    const parameters = parametersFrom(tensors, schema)
    await writeAdapter(directory, { schema, parameters, spec, taskType: 'SEQ_CLS' })
    const written = await readBack(directory)
    expect([...written.tensors]).toEqual([...tensors])
    expect(written.config).toMatchObject({
      peft_type: 'LORA',
      task_type: 'SEQ_CLS',
      r: 4,
      lora_alpha: 8,
      modules_to_save: ['classifier']
    })
    expect((written.config.target_modules as string[]).toSorted()).toEqual(spec.targets.toSorted())
    expect(await readAdapter(directory, schema)).toEqual(parameters)
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

  it('a folder without one says what is expected there', async () => {
    await expect(readAdapter(join(directory, 'none'), createSchema([]))).rejects.toMatchObject({
      code: 'config/no-adapter'
    })
  })

  it.each([{ peft_type: 'IA3' }, { peft_type: 'LORA', use_dora: true }, { peft_type: 'LORA', use_rslora: true }])(
    'refuses kinds it does not train: %j',
    (config) => {
      expect(() => specFromConfig(config, [])).toThrowError(
        expect.objectContaining({ code: 'config/unsupported-adapter' })
      )
    }
  )
})
