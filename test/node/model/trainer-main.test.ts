import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { entryUrl } from '../../../src/base/entry.js'
import { silentLogger } from '../../../src/base/log.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { spawnTrainer } from '../../../src/train/process/child-trainer.js'
import type { TrainerSpec } from '../../../src/train/trainer.js'

const MODEL = fileURLToPath(new URL('../../../../shared/models/stories260k/model.onnx', import.meta.url))

const spec = (modelPath: string, targets = ['q_proj', 'v_proj']): TrainerSpec => ({
  modelPath,
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: 4, alpha: 8, targets, head: [], seed: 'trainer-main' },
  device: 'cpu',
  threads: 1
})

const open = (of: TrainerSpec) =>
  spawnTrainer({ entry: entryUrl('node/model/trainer-main.js'), spec: of, clock: systemClock, log: silentLogger })

describe('the trainer process', () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'peertune-trainer-main-'))
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it('says which file is no model, without a second try', async () => {
    const path = join(directory, 'cat.onnx')
    writeFileSync(path, 'a picture of a cat')
    await expect(open(spec(path))).rejects.toMatchObject({
      name: 'PeertuneError',
      code: 'onnx/not-a-model',
      message: expect.stringContaining('cat.onnx')
    })
  })

  it.skipIf(!existsSync(MODEL))('names the module that the model does not have (needs ../shared/models)', async () => {
    await expect(open(spec(MODEL, ['no_such_proj']))).rejects.toMatchObject({ code: 'config/no-such-module' })
  })

  it.skipIf(!existsSync(MODEL))('computes what the trainer in this process does (needs ../shared/models)', async () => {
    const [child, local] = await Promise.all([open(spec(MODEL)), openLocalTrainer(spec(MODEL))])
    try {
      expect(child.description).toEqual(local.description)
      const { initial } = local.description
      const parameters = initial.map((value, i) => value + 0.05 * Math.sin(i))
      const first = await child.step(parameters, sentence(local.description.inputs))
      const reference = await local.step(parameters, sentence(local.description.inputs))
      expect(first.loss).toBe(reference.loss)
      expect(first.gradients).toEqual(reference.gradients)
      expect(first.gradients.some((value) => value !== 0)).toBe(true)

      process.kill(child.pid!, 'SIGKILL')
      expect(await child.step(parameters, sentence(local.description.inputs))).toEqual(first)
      expect(child.restarts).toBe(1)
      const batch = sentence(local.description.inputs)
      expect(await child.evaluate(parameters, batch)).toEqual(await local.evaluate(parameters, batch))
    } finally {
      await Promise.all([child.close(), local.close()])
    }
  })
})

/** Two rows of tokens, every input the model asks for. */
function sentence(inputs: readonly { readonly name: string }[]): Batch {
  const shape = [2, 9]
  const ids = Int32Array.from({ length: 18 }, (_, i) => 3 + ((i * 37) % 200))
  const ones = new Int32Array(18).fill(1)
  const data = (name: string) => (name === 'input_ids' ? ids : ones)
  return {
    inputs: Object.fromEntries(inputs.map(({ name }) => [name, { type: 'int64' as const, shape, data: data(name) }])),
    labels: { shape, data: ids.map((id, i) => ((i + 1) % 9 === 0 ? -100 : (id * 7) % 300)) }
  }
}
