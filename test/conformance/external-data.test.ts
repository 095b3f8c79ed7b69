import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { runCase } from '../../bench/conformance-case.js'
import { readModel } from '../../src/onnx/read.js'
import { shareWeights } from '../../src/onnx/weights.js'
import { writeModel } from '../../src/onnx/write.js'
import type { Initializer } from '../../src/onnx/graph.js'

const golden = fileURLToPath(new URL('../golden/conformance/bert-torchscript', import.meta.url))

/** Repeats a tensor's bytes into a file, so that every float tensor of the model is a reference. */
async function writeWithExternalData(directory: string): Promise<void> {
  const graph = await readModel(join(golden, 'model.onnx'))
  const chunks: Uint8Array[] = []
  let offset = 0
  const external = (initializer: Initializer): Initializer => {
    if (initializer.data.kind !== 'inline' || initializer.type !== 'float32') return initializer
    const { bytes } = initializer.data
    const data = { kind: 'external', location: 'model.onnx.data', offset, length: bytes.length } as const
    chunks.push(bytes)
    offset += bytes.length
    return { ...initializer, data }
  }
  const initializers = new Map(Array.from(graph.initializers, ([name, initializer]) => [name, external(initializer)]))
  await writeFile(join(directory, 'model.onnx'), writeModel({ ...graph, initializers }))
  await writeFile(join(directory, 'model.onnx.data'), Buffer.concat(chunks))
}

it('a model with its weights in a file beside it trains the same, and that file is used where it lies', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'peertune-external-'))
  try {
    for (const name of ['config.json', 'inputs.safetensors', 'lora'])
      await cp(join(golden, name), join(directory, name), { recursive: true })
    await writeWithExternalData(directory)
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
