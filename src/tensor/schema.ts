import { PeertuneError } from '../base/errors.js'
import { canonicalJson, sha256Hex } from '../base/bytes.js'

export type Shape = readonly number[]

/** One named tensor's place in the flat parameter vector. */
export interface ParameterEntry {
  /** Hugging Face style, e.g. `model.layers.0.self_attn.q_proj.lora_A.weight`. */
  readonly name: string
  readonly shape: Shape
  /** First element in the flat vector. */
  readonly offset: number
  /** Product of the shape. */
  readonly size: number
}

/**
 * Names and shapes of a flat Float32Array of trainable parameters, in a fixed order.
 * Two peers mix only if their schemas hash alike.
 */
export interface ParameterSchema {
  readonly entries: readonly ParameterEntry[]
  /** Elements of the whole vector. */
  readonly size: number
  /** SHA-256 (hex) over names and shapes in order. */
  readonly hash: string
}

export const shapeSize = (shape: Shape): number => shape.reduce((product, dim) => product * dim, 1)

/** Lays the tensors out one behind the other. Throws `tensor/duplicate-name`. */
export function createSchema(tensors: readonly { readonly name: string; readonly shape: Shape }[]): ParameterSchema {
  const seen = new Set<string>()
  let offset = 0
  const entries = tensors.map(({ name, shape }) => {
    if (seen.has(name))
      throw new PeertuneError('tensor/duplicate-name', `parameter ${name} is named twice`, { facts: { name } })
    seen.add(name)
    const entry = { name, shape, offset, size: shapeSize(shape) }
    offset += entry.size
    return entry
  })
  return { entries, size: offset, hash: sha256Hex(canonicalJson(entries.map(({ name, shape }) => [name, shape]))) }
}

/** The part of `vector` that belongs to `entry`; a view, not a copy. */
export const viewOf = (vector: Float32Array, entry: ParameterEntry): Float32Array =>
  vector.subarray(entry.offset, entry.offset + entry.size)
