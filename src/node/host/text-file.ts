import { readFile, stat } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'

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

/** What the file system said, in words. */
export function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const words: Readonly<Record<string, string>> = {
    ENOENT: 'no such file or directory',
    EACCES: 'permission denied',
    EPERM: 'operation not permitted',
    EISDIR: 'a directory',
    EEXIST: 'something of that name',
    ENOTDIR: 'a path through something that is no directory',
    EROFS: 'a read-only file system',
    ENOSPC: 'no space left on the device'
  }
  return words[code] ?? (error instanceof Error ? error.message : String(error))
}
