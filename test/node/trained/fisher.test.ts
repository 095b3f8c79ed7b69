import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../src/base/bytes.js'
import type { PeftSpec, SparseSpec } from '../../../src/base/peft-spec.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import { diagonalFisher, fisherMasks } from '../../../src/node/trained/fisher.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { readMasks, writeMasks } from '../../../src/peft/files/mask-file.js'
import { intsOf, readSafetensors } from '../../../src/tensor/safetensors.js'
import { createSchema, viewOf } from '../../../src/tensor/schema.js'
import { temporaryFolder } from '../folder.js'

const golden = fileURLToPath(new URL('../../golden/conformance', import.meta.url))
const folder = await temporaryFolder()
const task = { kind: 'causal-lm' } as const
const common = { head: [], seed: 'spring' }

async function batchOf(name: string): Promise<Batch> {
  const tensors = readSafetensors(await readFile(join(golden, name, 'inputs.safetensors')))
  const ints = (key: string) => {
    const entry = tensors.get(key)
    if (entry === undefined) throw new Error(`no ${key}`)
    return { shape: entry.shape, data: intsOf(entry, key) }
  }
  const inputs = [...tensors.keys()].filter((key) => key !== 'labels')
  return {
    inputs: Object.fromEntries(inputs.map((key) => [key, { type: 'int64' as const, ...ints(key) }])),
    labels: ints('labels')
  }
}

it('the diagonal Fisher is the mean of squared gradients of single examples', async () => {
  const gradients = [Float32Array.of(1, -2, 0.5), Float32Array.of(3, 0, -0.25), Float32Array.of(-1, 1, 4)]
  let at = 0
  const batch: Batch = { inputs: {}, labels: { shape: [1], data: Int32Array.of(0) } }
  const description = { schema: createSchema([{ name: 'w', shape: [3] }]), initial: new Float32Array(3) }
  const fisher = await diagonalFisher(
    {
      description: { ...description, inputs: [], modelSha256: '', device: { used: 'cpu' } },
      step: async () => ({ loss: 1, gradients: gradients[at++] ?? new Float32Array() })
    },
    {
      batches: (size) => {
        expect(size).toBe(1)
        return { next: () => batch, cursor: () => ({ epoch: 0, position: 0 }) }
      }
    },
    2
  )
  expect(fisher).toEqual(Float32Array.of(5, 2, 0.15625))
})

describe.each([
  // A linear layer as [out, in], as an anonymous [in, out] copy, and as a Conv1D that is [in, out] everywhere.
  ['llama-dynamo', 'q_proj'],
  ['gpt2-dynamo', 'c_attn']
])('%s %s', (name, target) => {
  const modelPath = join(golden, name, 'model.onnx')
  const sparse: SparseSpec = { method: 'sparse', targets: [target], density: 0.02, mask: 'random', ...common }
  const open = (peft: PeftSpec, maskFile?: string) =>
    openLocalTrainer(
      { modelPath, task, peft, device: 'cpu', threads: 1, ...(maskFile && { maskFile }) },
      { weightsDir: folder.root }
    )

  it('trains the elements with the largest squared gradients, from a file that everybody has', async () => {
    const batch = await batchOf(name)
    const stream = { next: () => batch, cursor: () => ({ epoch: 0, position: 0 }) }
    const dataset = { size: 1, batches: () => stream, evaluation: () => [] }
    const masks = await fisherMasks({
      modelPath,
      task,
      sparse,
      examples: 5,
      openDataset: async () => dataset,
      weightsDir: folder.root
    })
    const bytes = writeMasks(masks)
    expect(readMasks(bytes, 'a file')).toEqual(masks)
    const file = await folder.write(`${name}.safetensors`, Buffer.from(bytes))
    const spec: SparseSpec = { ...sparse, mask: 'fisher', maskSha256: sha256Hex(bytes) }
    const [masked, whole] = await Promise.all([
      open(spec, file),
      open({ method: 'partial', targets: [target], lastLayers: 0, ...common })
    ])
    try {
      const ofMask = await masked.step(masked.description.initial, batch)
      const ofAll = await whole.step(whole.description.initial, batch)
      for (const entry of masked.description.schema.entries) {
        const weight = whole.description.schema.entries.find(
          (one) => one.name === entry.name.replace('sparse_delta', 'weight')
        )
        if (weight === undefined) throw new Error(`no weight for ${entry.name}`)
        const squares = (values: Float32Array) => [...values].map((value) => value * value).sort((a, b) => b - a)
        const got = squares(viewOf(ofMask.gradients, entry))
        const largest = squares(viewOf(ofAll.gradients, weight)).slice(0, entry.size)
        expect(entry.size).toBe(Math.floor(0.02 * weight.size))
        for (const [i, value] of got.entries()) expect(value / (largest[i] as number)).toBeCloseTo(1, 3)
      }
    } finally {
      await Promise.all([masked.close(), whole.close()])
    }
    await expect(open(spec)).rejects.toMatchObject({ code: 'config/no-mask' })
    await expect(open({ ...spec, maskSha256: '0'.repeat(64) }, file)).rejects.toMatchObject({
      code: 'config/wrong-mask'
    })
    await expect(open({ ...spec, density: 0.03 }, file)).rejects.toMatchObject({ code: 'config/wrong-mask' })
  })
})

it('indices that do not ascend are refused', () => {
  const bytes = writeMasks(new Map([['up', Uint32Array.of(3, 3)]]))
  expect(() => readMasks(bytes, 'a file')).toThrowError(expect.objectContaining({ code: 'config/wrong-mask' }))
})
