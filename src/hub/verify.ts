import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'

/**
 * What the hub says a file is: of a large file (LFS) the SHA-256 of its bytes, of a small one the hash git knows it by,
 * SHA-1 over `blob SIZE\0` and its bytes (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). Both are the
 * name of the blob in the cache.
 */
export interface FileHash {
  readonly hex: string
  readonly size: number
}

const SHA256_DIGITS = 64

/** A hash of the file's bytes to come, of the kind that `hex` is. */
export function hasherOf({ hex, size }: FileHash): Hash {
  if (hex.length === SHA256_DIGITS) return createHash('sha256')
  return createHash('sha1').update(`blob ${size}\0`)
}

/** Whether a file is there and is what its hash says. */
export async function isIntact(path: string, hash: FileHash): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined || found.size !== hash.size) return false
  const hasher = hasherOf(hash)
  for await (const chunk of createReadStream(path)) hasher.update(chunk as Buffer)
  return hasher.digest('hex') === hash.hex
}
