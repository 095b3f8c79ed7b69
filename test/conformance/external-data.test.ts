import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { runCase } from '../../bench/training/conformance-case.js'
import { readModel } from '../../src/onnx/file/read.js'
import { shareWeights } from '../../src/onnx/file/weights.js'
import { writeWithExternalData } from './external-weights.js'

const golden = fileURLToPath(new URL('../golden/conformance/bert-torchscript', import.meta.url))

it('a model with its weights in a file beside it trains the same, and that file is used where it lies', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'peertune-external-'))
  try {
    for (const name of ['config.json', 'inputs.safetensors', 'lora'])
      await cp(join(golden, name), join(directory, name), { recursive: true })
    await writeWithExternalData(join(golden, 'model.onnx'), directory)
    const graph = await readModel(join(directory, 'model.onnx'))
    const shared = await shareWeights(graph, {
      modelPath: join(directory, 'model.onnx'),
      sha256: 'x',
      cacheDir: '/nowhere'
    })
    expect(shared.externalDir).toBe(directory)
    const inline = await runCase({ directory: golden, method: 'lora', weightsDir: directory })
    const external = await runCase({ directory, method: 'lora' })
    expect(external).toEqual(inline)
  } finally {
    await rm(directory, { recursive: true })
  }
})
