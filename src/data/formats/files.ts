import { open, stat } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { reasonOf, systemCode } from '../../base/system-error.js'

/** Size of a readable file. Throws `data/no-file`. */
export async function statFile(path: string): Promise<{ readonly size: number }> {
  const found = await stat(path).catch((cause: unknown) => {
    throw cannotRead(path, cause)
  })
  if (found.isFile()) return found
  throw new PeertuneError('data/no-file', `${path} is a folder; a file was expected`, { facts: { file: path } })
}

export interface PieceOptions {
  readonly signal?: AbortSignal | undefined
  /** Bytes read at once. */
  readonly pieceBytes?: number
}

/**
 * The bytes of a file in order, without a stream, whose errors are events that end the process where nobody listens.
 * Throws `data/no-file`, in the middle of the file, too, and the signal's reason.
 */
export async function* readPieces(path: string, { signal, pieceBytes = 65_536 }: PieceOptions = {}) {
  await statFile(path)
  const handle = await reading(path, open(path))
  try {
    for (;;) {
      signal?.throwIfAborted()
      const { bytesRead, buffer } = await reading(path, handle.read(Buffer.allocUnsafe(pieceBytes), 0, pieceBytes))
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await handle.close()
  }
}

/** What is thrown by `work`, as `data/no-file` where it was the system that refused. */
export async function reading<T>(path: string, work: Promise<T>): Promise<T> {
  return work.catch((cause: unknown) => {
    throw systemCode(cause) === '' ? cause : cannotRead(path, cause)
  })
}

/** Gives up waiting for what cannot be stopped itself. Throws the signal's reason. */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const giveUp = () => reject(signal.reason)
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp, { once: true })
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
  return promise
}

/** What comes of `work`; where it fails, nobody else will close what it works on. */
export async function orClosed<T>(opened: { readonly close: () => void }, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    opened.close()
    throw error
  }
}

export const cannotRead = (path: string, cause: unknown): PeertuneError =>
  new PeertuneError('data/no-file', `cannot read ${path} (${reasonOf(cause)})`, { facts: { file: path }, cause })

export const emptyFile = (path: string): PeertuneError =>
  new PeertuneError('data/empty', `${path} is empty`, { facts: { file: path }, hint: 'give a file with examples' })
