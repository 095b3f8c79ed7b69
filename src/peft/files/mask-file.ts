import { readFile } from 'node:fs/promises'
import { sha256Hex } from '../../base/bytes.js'
import { PeertuneError } from '../../base/errors.js'
import { intsOf, readSafetensors, writeSafetensors } from '../../tensor/safetensors.js'
import type { SparseMasks } from '../method/base-model.js'

/** Behind a module's path; int32[elements], ascending indices of a weight as [out, in]. */
const SUFFIX = '.sparse_mask'

/** Masks as safetensors: what a manifest names by its SHA-256, so that every peer trains the same elements. */
export const writeMasks = (masks: SparseMasks): Uint8Array =>
  writeSafetensors(
    Array.from(masks, ([path, indices]) => ({
      name: `${path}${SUFFIX}`,
      shape: [indices.length],
      data: Int32Array.from(indices)
    }))
  )

/** Throws `config/wrong-mask` for indices that do not ascend, and `tensor/not-safetensors`. */
export function readMasks(bytes: Uint8Array, source: string): SparseMasks {
  const tensors = [...readSafetensors(bytes, source)].filter(([name]) => name.endsWith(SUFFIX))
  return new Map(
    tensors.map(([name, entry]) => {
      const indices = intsOf(entry, name)
      if (indices.some((index, at) => index < 0 || (at > 0 && index <= (indices[at - 1] as number))))
        throw new PeertuneError('config/wrong-mask', `${source}: indices of ${name} are not in ascending order`, {
          facts: { file: source, tensor: name },
          hint: 'make the file with peertune mask'
        })
      return [name.slice(0, -SUFFIX.length), Uint32Array.from(indices)]
    })
  )
}

/** The masks of a file, for whoever knows its hash. Throws `config/no-mask` and, in the function, `config/wrong-mask`. */
export async function openMasks(path: string | undefined): Promise<(sha256: string) => SparseMasks> {
  const bytes = path === undefined ? undefined : await readFile(path).catch((cause: unknown) => missing(path, cause))
  let masks: SparseMasks | undefined
  return (expected) => {
    if (path === undefined || bytes === undefined)
      throw new PeertuneError(
        'config/no-mask',
        'maskFile is missing, expected the file with the mask of the federation',
        {
          facts: { expected },
          hint: 'get the mask file from whoever made the federation, and name it as maskFile'
        }
      )
    const got = sha256Hex(bytes)
    if (got !== expected)
      throw new PeertuneError('config/wrong-mask', `${path}: another mask than the federation's`, {
        facts: { file: path, expected, got },
        hint: 'all peers must train the same elements: get the file with this SHA-256'
      })
    masks ??= readMasks(bytes, path)
    return masks
  }
}

function missing(path: string, cause: unknown): never {
  throw new PeertuneError('config/no-mask', `cannot read the mask file ${path}`, {
    facts: { file: path },
    hint: 'name as maskFile a file that is there and that this user may read',
    cause
  })
}
