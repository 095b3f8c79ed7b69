import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Initializer } from '../../src/onnx/graph/graph.js'
import { readModel } from '../../src/onnx/file/read.js'
import { writeModel } from '../../src/onnx/file/write.js'

/** The model at `path` as model.onnx and model.onnx.data of a folder: every float tensor of it a reference. */
export async function writeWithExternalData(path: string, directory: string): Promise<void> {
  const graph = await readModel(path)
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
