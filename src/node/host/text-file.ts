import { readFile, stat } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { reasonOf } from '../../base/system-error.js'

/** Reads a small text file. Throws `config/unreadable-file` and `config/too-large`, naming the file. */
export async function readTextFile(file: string, maxBytes: number): Promise<string> {
  try {
    const { size } = await stat(file)
    if (size <= maxBytes) return await readFile(file, 'utf8')
  } catch (cause) {
    throw unreadable(file, file, cause)
  }
  throw new PeertuneError('config/too-large', `${file}: expected at most ${maxBytes} bytes`, {
    facts: { file, maxBytes }
  })
}

/** `where` is what the operator wrote and can change: a file, or the field that names it. */
export function unreadable(where: string, file: string, cause: unknown): PeertuneError {
  const got = where === file ? reasonOf(cause) : `${file} (${reasonOf(cause)})`
  const message = `${where}: expected a readable file, got ${got}`
  return new PeertuneError('config/unreadable-file', message, { facts: { file }, cause })
}
