import { createHash } from 'node:crypto'
import type { Batch } from '../../data/batches/batch.js'
import type { SessionTensor } from '../../onnx/runtime/session.js'
import type { Shape } from '../../tensor/schema.js'

/** One example's part of each boundary value. */
export type Activations = readonly Float32Array[]

export interface ActivationCache {
  get(key: string): Activations | undefined
  /** Keeps them if they fit; what is kept stays, as examples come round in turn and the oldest is the next to come. */
  put(key: string, activations: Activations): void
  readonly bytes: number
  clear(): void
}

export function createActivationCache(maxBytes: number): ActivationCache {
  const entries = new Map<string, Activations>()
  let bytes = 0
  return {
    get: (key) => entries.get(key),
    put(key, activations) {
      const size = activations.reduce((sum, { byteLength }) => sum + byteLength, 0)
      if (entries.has(key) || bytes + size > maxBytes) return
      entries.set(key, activations)
      bytes += size
    },
    get bytes() {
      return bytes
    },
    clear() {
      entries.clear()
      bytes = 0
    }
  }
}

/** SHA-256 of each example's own inputs, padding included: what its activations are a function of. */
export function exampleKeys({ inputs }: Pick<Batch, 'inputs'>, batchSize: number): string[] {
  const tensors = Object.entries(inputs).sort(([a], [b]) => (a < b ? -1 : 1))
  return Array.from({ length: batchSize }, (_, row) => {
    const hash = createHash('sha256')
    for (const [name, { shape, data }] of tensors) {
      const size = data.length / batchSize
      const part = data.subarray(row * size, (row + 1) * size)
      hash.update(`${name}[${shape.slice(1)}]`).update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
    }
    return hash.digest('base64')
  })
}

/** Example `row` of each value; copies, so that the whole can be let go. */
export const partOf = (values: readonly SessionTensor[], row: number, batchSize: number): Activations =>
  values.map(({ data }) => {
    const size = data.length / batchSize
    return Float32Array.from((data as Float32Array).subarray(row * size, (row + 1) * size))
  })

/** Parts in the order of the batch -> whole values of these shapes. */
export const joinParts = (parts: readonly Activations[], shapes: readonly Shape[]): SessionTensor[] =>
  shapes.map((shape, value) => {
    const size = parts[0]?.[value]?.length ?? 0
    const data = new Float32Array(size * parts.length)
    for (const [row, part] of parts.entries()) data.set(part[value] ?? [], row * size)
    return { type: 'float32', shape, data }
  })
