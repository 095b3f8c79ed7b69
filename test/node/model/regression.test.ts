import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { PeftSpec } from '../../../src/base/peft-spec.js'
import type { Batch, BatchTensor } from '../../../src/data/batches/batch.js'
import { openDataset } from '../../../src/data/source.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { intsOf, readSafetensors } from '../../../src/tensor/safetensors.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { createLocalOptimiser } from '../../../src/train/optimiser/local-optimiser.js'
import { evaluateDataset } from '../../../src/train/evaluate.js'
import { temporaryFile, temporaryFolder } from '../../data/fixtures.js'

/** What PyTorch says of the same model, inputs and labels: see golden/regression.py. */
const GOLDEN = join(import.meta.dirname, '../../golden')
interface Golden {
  readonly labels: number[]
  readonly loss: number
  readonly weight: number[]
  readonly bias: number[]
  readonly correlation: number
}
const golden = JSON.parse(await readFile(join(GOLDEN, 'regression.json'), 'utf8')) as Golden
const CASE = join(GOLDEN, 'conformance', 'bert-torchscript')
const PEFT: PeftSpec = {
  method: 'lora',
  rank: 2,
  alpha: 4,
  targets: ['query'],
  head: ['classifier'],
  seed: 'regression'
}

const open = async (microBatch?: number) =>
  openLocalTrainer(
    {
      modelPath: join(CASE, 'model.onnx'),
      task: { kind: 'regression' },
      peft: PEFT,
      device: 'cpu',
      threads: 1,
      ...(microBatch === undefined ? {} : { microBatch })
    },
    { weightsDir: await temporaryFolder() }
  )

async function goldenBatch(): Promise<Batch> {
  const tensors = readSafetensors(await readFile(join(CASE, 'inputs.safetensors')))
  const inputs: Record<string, BatchTensor> = {}
  for (const [name, entry] of tensors)
    if (name !== 'labels') inputs[name] = { type: 'int64', shape: entry.shape, data: intsOf(entry) }
  return { inputs, labels: { shape: [3], data: Float32Array.from(golden.labels) } }
}

describe('a regression', () => {
  it.each([undefined, 2])(
    'has the loss, the gradients and the correlation of PyTorch, %s examples at a time',
    async (microBatch) => {
      const trainer = await open(microBatch)
      const { schema, initial } = trainer.description
      const parameters = initial.slice()
      const entryOf = (name: string) => schema.entries.find((entry) => entry.name.endsWith(name))!
      viewOf(parameters, entryOf('classifier.weight')).set(Array.from({ length: 48 }, (_, i) => Math.sin(i + 1) / 2))
      viewOf(parameters, entryOf('classifier.bias')).set([0.25])
      const batch = await goldenBatch()
      const { loss, gradients } = await trainer.step(parameters, batch)
      expect(loss).toBeCloseTo(golden.loss, 5)
      const largest = Math.max(...golden.weight.map(Math.abs))
      for (const [name, expected] of [
        ['classifier.weight', golden.weight],
        ['classifier.bias', golden.bias]
      ] as const)
        for (const [i, value] of viewOf(gradients, entryOf(name)).entries())
          expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-5 * largest)
      const measured = await evaluateDataset(trainer, parameters, [batch])
      expect(measured).toMatchObject({ count: 3, accuracy: Number.NaN })
      expect(measured.loss).toBeCloseTo(golden.loss, 5)
      expect(measured.correlation).toBeCloseTo(golden.correlation, 5)
      await trainer.close()
    }
  )

  it('learns a number from a text, and is measured on what was held out', async () => {
    const rows = Array.from({ length: 120 }, (_, i) => {
      const cats = i % 5
      return JSON.stringify({ text: `${'the cat '.repeat(cats)}sat ${i}`, label: cats / 2 - 1 })
    })
    const trainer = await open()
    const data = await openDataset(
      {
        kind: 'jsonl',
        path: await temporaryFile(rows.join('\n')),
        tokenizer: join(GOLDEN, '../data/golden/wordpiece'),
        sequenceLength: 20,
        seed: 's',
        heldOut: 0.2
      },
      { kind: 'regression' },
      trainer.description
    )
    const parameters = trainer.description.initial.slice()
    const before = await evaluateDataset(trainer, parameters, data.evaluation(8))
    const optimiser = createLocalOptimiser({
      trainer,
      batches: data.batches(8),
      parameters,
      options: {
        learningRate: 0.02,
        weightDecay: 0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        schedule: { kind: 'constant', warmupSteps: 0 }
      }
    })
    for (let step = 0; step < 60; step++) await optimiser.step()
    const after = await evaluateDataset(trainer, parameters, data.evaluation(8))
    expect(after.count).toBe(data.summary?.heldOut)
    expect(after.loss).toBeLessThan(before.loss / 2)
    expect(after.correlation).toBeGreaterThan(0.8)
    await trainer.close()
  })
})
