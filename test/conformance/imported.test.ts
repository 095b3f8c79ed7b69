import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openForward } from '../../src/node/trained/open-forward.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { parametersFrom, readAdapterFolder } from '../../src/peft/files/adapter-format.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'
import { temporaryFolder } from '../node/folder.js'

const base = fileURLToPath(new URL('../golden/conformance/bert-torchscript', import.meta.url))
/** Saved by PEFT 0.21 itself, with the logits that PyTorch computes with them: test/interop/save_adapters.py. */
const saved = fileURLToPath(new URL('../golden/peft/bert-torchscript', import.meta.url))
const task = { kind: 'sequence-classification', labels: ['0', '1', '2'] } as const
const folder = await temporaryFolder()

const tensorsOf = async (path: string) => readSafetensors(await readFile(path), path)

describe('an adapter that PEFT saved in other words', () => {
  it.each([
    ['lora-patterns', { method: 'lora', rank: 4, alpha: 6 }],
    ['rslora-patterns', { method: 'rslora', rank: 4, alpha: 6 }],
    ['adalora', { method: 'lora', rank: 5, alpha: 7 }],
    ['p-tuning', { method: 'prompt', tokens: 3 }],
    ['lora-half', { method: 'lora', rank: 4, alpha: 6 }],
    ['lora-brain-half', { method: 'lora', rank: 4, alpha: 6 }]
  ])('%s: computes what PyTorch computes with it', async (name, expected) => {
    const { plan, tensors } = await readAdapterFolder(join(saved, name))
    expect(plan).toMatchObject({ ...expected, head: ['classifier'] })
    const spec = { modelPath: join(base, 'model.onnx'), task, peft: plan }
    const adapted = await loadAdaptedModel(spec, { weightsDir: folder.root })
    const parameters = parametersFrom(tensors, adapted.method.schema)
    const forward = await openForward({ adapted, parameters, device: 'cpu', threads: 1 })
    try {
      const given = [...(await tensorsOf(join(base, 'inputs.safetensors')))].filter(([key]) => key !== 'labels')
      const inputs = given.map(([key, entry]) => [
        key,
        { type: 'int64', shape: entry.shape, data: intsOf(entry) } as const
      ])
      const logits = await forward.run(Object.fromEntries(inputs))
      const reference = (await tensorsOf(join(saved, name, 'expected.safetensors'))).get('logits')
      if (reference === undefined) throw new Error('no logits')
      expect(logits.shape).toEqual(reference.shape)
      const values = floatsOf(reference)
      const worst = logits.data.reduce((max, value, i) => Math.max(max, Math.abs(value - (values[i] as number))), 0)
      expect(worst).toBeLessThan(1e-4)
    } finally {
      await forward.close()
    }
  })
})
