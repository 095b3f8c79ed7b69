import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import type { PeftSpec } from '../../src/base/federation.js'
import type { Batch } from '../../src/data/batches/batch.js'
import { openLocalTrainer } from '../../src/node/model/open-trainer.js'
import { adamw, createAdamW } from '../../src/train/optimiser/adamw.js'

const modelPath = fileURLToPath(new URL('../../../shared/models/stories260k/model.onnx', import.meta.url))
const LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']

/** Three rows of twenty tokens, predicted from each other. */
function sentences(): Batch {
  const [rows, columns] = [3, 20]
  const ids = Int32Array.from({ length: rows * columns }, (_, i) => 3 + ((i * 37) % 500))
  const mask = new Int32Array(rows * columns).fill(1)
  const labels = ids.map((_, i) => ((i + 1) % columns === 0 ? -100 : (ids[i + 1] as number)))
  return {
    inputs: {
      input_ids: { type: 'int64', shape: [rows, columns], data: ids },
      attention_mask: { type: 'int64', shape: [rows, columns], data: mask }
    },
    labels: { shape: [rows, columns], data: labels }
  }
}

const common = { head: [], seed: 'stories' }
const lowRank = { rank: 4, alpha: 8, targets: LINEARS, ...common }

it.skipIf(!existsSync(modelPath)).each<PeftSpec>([
  { method: 'prompt', tokens: 8, ...common },
  { method: 'prefix', tokens: 8, ...common },
  { method: 'ravan', heads: 4, ...lowRank },
  { method: 'sparse', density: 0.02, mask: 'magnitude', targets: LINEARS, ...common },
  { method: 'bottleneck', placement: 'houlsby', targets: [], width: 8, activation: 'gelu', ...common }
])('a trained Llama with $method learns, and evaluation agrees with training', async (peft) => {
  const weightsDir = await mkdtemp(join(tmpdir(), 'peertune-llama-'))
  const spec = { modelPath, task: { kind: 'causal-lm' }, peft, device: 'cpu', threads: 1 } as const
  const trainer = await openLocalTrainer(spec, { weightsDir })
  try {
    const batch = sentences()
    const parameters = trainer.description.initial.slice()
    const { lossSum, count } = await trainer.evaluate(parameters, batch)
    expect(count).toBe(3 * 19)
    let { gradients, loss } = await trainer.step(parameters, batch)
    const first = loss
    expect(first).toBeCloseTo(lossSum / count, 4)
    let state = createAdamW(parameters.length)
    for (let step = 0; step < 12; step++) {
      state = adamw(parameters, gradients, state, { learningRate: 1e-2 })
      ;({ gradients, loss } = await trainer.step(parameters, batch))
    }
    expect(loss).toBeLessThan(0.95 * first)
  } finally {
    await trainer.close()
    await rm(weightsDir, { recursive: true })
  }
})

// The model is not in the repository.
it.skipIf(!existsSync(modelPath))('a trained Llama with LoRA on all seven linears learns a sentence', async () => {
  const weightsDir = await mkdtemp(join(tmpdir(), 'peertune-llama-'))
  const peft = { method: 'lora', rank: 8, alpha: 16, targets: LINEARS, head: [], seed: 'stories' } as const
  const spec = { modelPath, task: { kind: 'causal-lm' }, peft, device: 'cpu', threads: 1 } as const
  const trainer = await openLocalTrainer(spec, { weightsDir })
  try {
    const { schema, initial } = trainer.description
    expect(schema.size).toBe(46_240)
    const batch = sentences()
    const parameters = initial.slice()
    const { lossSum, count } = await trainer.evaluate(parameters, batch)
    const first = await trainer.step(parameters, batch)
    expect(count).toBe(3 * 19)
    expect(first.loss).toBeCloseTo(lossSum / count, 4)
    let { gradients, loss } = first
    let state = createAdamW(schema.size)
    for (let step = 0; step < 12; step++) {
      state = adamw(parameters, gradients, state, { learningRate: 3e-3 })
      ;({ gradients, loss } = await trainer.step(parameters, batch))
    }
    expect(loss).toBeLessThan(first.loss / 2)
  } finally {
    await trainer.close()
    await rm(weightsDir, { recursive: true })
  }
})
