import { stat } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'

/** Size of a readable file. Throws `data/no-file`. */
export async function statFile(path: string): Promise<{ readonly size: number }> {
  try {
    const found = await stat(path)
    if (found.isFile()) return found
  } catch (cause) {
    throw new PeertuneError('data/no-file', `cannot read ${path}`, { facts: { file: path }, cause })
  }
  throw new PeertuneError('data/no-file', `${path} is a folder; a file was expected`, { facts: { file: path } })
}

export const emptyFile = (path: string): PeertuneError =>
  new PeertuneError('data/empty', `${path} is empty`, { facts: { file: path }, hint: 'give a file with examples' })
