import { open, rename, rm, stat } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import type { Graph, Initializer } from '../../onnx/graph/graph.js'
import { type QuantiseBits, type QuantisedLayer, quantiseLinears } from '../../onnx/int8/quantise.js'
import { MAX_MODEL_FILE_BYTES } from '../../onnx/file/read.js'
import { readWeight } from '../../onnx/file/weights.js'
import { writeModel } from '../../onnx/file/write.js'
import { type LoadOptions, loadBaseModel } from './program.js'

export interface QuantiseRequest extends LoadOptions {
  readonly bits: QuantiseBits
  readonly blockSize?: number
  readonly keep?: readonly string[]
  /** File to write; must not exist. */
  readonly out: string
}

export interface QuantiseReport {
  readonly out: string
  readonly layers: readonly QuantisedLayer[]
  /** Bytes of all constants, before and after. */
  readonly bytesBefore: number
  readonly bytesAfter: number
}

/**
 * Writes a model whose linear layers are int4 or int8, whole or not at all, its weights inside. Throws
 * `config/nothing-to-quantise`, `config/file-exists`, `onnx/too-large` and what reading the model throws.
 */
export async function quantiseModel(modelPath: string, request: QuantiseRequest): Promise<QuantiseReport> {
  const { out, ...options } = request
  if (await stat(out).catch(() => undefined))
    throw new PeertuneError('config/file-exists', `${out} exists`, { facts: { out }, hint: 'name another file' })
  const { model, externalDir } = await loadBaseModel(modelPath, options)
  const read = (initializer: Initializer): Float32Array => readWeight(initializer, externalDir)
  const { graph, layers } = quantiseLinears(model, { ...options, read })
  if (layers.length === 0)
    throw new PeertuneError('config/nothing-to-quantise', `${modelPath} has no linear layer in float32`, {
      facts: { modelPath },
      hint: 'it may be quantised already: see peertune inspect'
    })
  const whole = inlined(graph, read)
  if (bytesOf(whole) > MAX_MODEL_FILE_BYTES)
    throw new PeertuneError('onnx/too-large', `${out} would have ${bytesOf(whole)} bytes`, {
      facts: { bytes: bytesOf(whole), limit: MAX_MODEL_FILE_BYTES },
      hint: 'a quantised model is one file: take a smaller base model'
    })
  await writeWhole(out, writeModel(whole))
  return { out, layers, bytesBefore: bytesOf(model.graph), bytesAfter: bytesOf(whole) }
}

const bytesOf = ({ initializers }: Graph): number =>
  Array.from(initializers.values()).reduce(
    (sum, { data }) => sum + (data.kind === 'inline' ? data.bytes.length : data.length),
    0
  )

function inlined(graph: Graph, read: (initializer: Initializer) => Float32Array): Graph {
  const initializers = Array.from(graph.initializers.values(), (initializer): [string, Initializer] => {
    if (initializer.data.kind === 'inline') return [initializer.name, initializer]
    const bytes = new Uint8Array(read(initializer).buffer)
    return [initializer.name, { ...initializer, data: { kind: 'inline', bytes } }]
  })
  return { ...graph, initializers: new Map(initializers) }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw cause
  }
}
