import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { shapeSize } from '../../tensor/schema.js'
import { bytesOfElements } from '../graph/element-type.js'
import type { Graph } from '../graph/graph.js'
import type { Weight } from '../graph/weight.js'
import { resolveLocation, weightPieces } from './weights.js'

/**
 * Every tensor that a model keeps in another file must lie in it whole, and have as many bytes as its shape asks for.
 * Throws `onnx/missing-weights`, with the tensor and the bytes expected and found, and `onnx/weights-outside`.
 */
export async function checkExternalData({ initializers }: Graph, modelPath: string): Promise<void> {
  const sizes = new Map<string, number>()
  for (const initializer of initializers.values()) {
    const { data } = initializer
    if (data.kind !== 'external') continue
    const path = resolveLocation(dirname(modelPath), data.location)
    const size = sizes.get(path) ?? (await sizeOf(path, modelPath))
    sizes.set(path, size)
    const { name, type, shape } = initializer
    const expected = bytesOfElements(type, shapeSize(shape))
    if (data.length !== expected)
      throw broken(path, `${name} is declared with ${data.length} bytes, its shape [${shape}] takes ${expected}`)
    if (!(data.offset >= 0) || data.offset + data.length > size)
      throw broken(path, `${name}: expected ${data.length} bytes from byte ${data.offset} on, the file has ${size}`)
  }
}

const sizeOf = async (path: string, modelPath: string): Promise<number> => {
  const found = await stat(path).catch((cause: unknown) => {
    throw new PeertuneError('onnx/missing-weights', `${modelPath}: its weights file ${path} cannot be opened`, {
      facts: { file: modelPath, path },
      hint: HINT,
      cause
    })
  })
  return found.size
}

const HINT = 'keep the whole external data file in the folder of the .onnx file, under the name it was exported with'

const broken = (path: string, what: string): PeertuneError =>
  new PeertuneError('onnx/missing-weights', `${path}: ${what}`, { facts: { path }, hint: HINT })

export type StoredWeight = Pick<Weight, 'name' | 'initializer'>

/**
 * Throws `onnx/not-finite` for the first weight that holds an infinity or NaN: no gradient of it would be a number. Reads
 * every weight, 2 to 3 GB a second from the page cache.
 */
export function refuseNonFinite(weights: Iterable<StoredWeight>, externalDir: string): void {
  for (const { name, initializer } of weights) {
    if (initializer.type !== 'float32' && initializer.type !== 'float64') continue
    let before = 0
    for (const piece of weightPieces(initializer, externalDir)) {
      const index = firstNonFinite(piece)
      if (index >= 0) throw notFinite(name, before + index, piece[index] as number)
      before += piece.length
    }
  }
}

/** An exponent of ones alone is that of the infinities and of NaN. Seven times as fast as to ask every number. */
const EXPONENT = 0x7f800000

function firstNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & EXPONENT) === EXPONENT) return i
  return -1
}

const notFinite = (name: string, index: number, value: number): PeertuneError =>
  new PeertuneError('onnx/not-finite', `weight ${name}: expected finite numbers, got ${value}`, {
    facts: { name, index, value: String(value) },
    hint: 'the file was damaged, or the training that made it diverged'
  })
