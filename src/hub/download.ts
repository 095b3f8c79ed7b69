import { randomUUID } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PeertuneError } from '../base/errors.js'
import type { RepoFile } from './client.js'
import { HUB_LIMITS } from './limits.js'
import { hasherOf } from './verify.js'

export interface Download {
  readonly file: RepoFile
  /** Where it goes once it is whole and what its hash says. */
  readonly target: string
  /** Bytes from `start` on. */
  read(start: number): Promise<AsyncIterable<Uint8Array>>
  /** Bytes received of this file so far. */
  readonly progress?: ((received: number) => void) | undefined
}

/**
 * Writes a file under its final name only when all of it has come and its hash is right. A connection that breaks is
 * taken up where it broke. Throws `hub/wrong-hash`, `hub/truncated`, and what `read` throws.
 */
export async function download({ file, target, read, progress }: Download): Promise<void> {
  const { hash, path } = file
  await mkdir(dirname(target), { recursive: true })
  const temporary = `${target}.${randomUUID()}.incomplete`
  try {
    const hasher = hasherOf(hash)
    const out = await open(temporary, 'wx')
    try {
      for await (const chunk of resumed(file, read)) {
        hasher.update(chunk.bytes)
        await out.writeFile(chunk.bytes)
        progress?.(chunk.received)
      }
      await out.sync()
    } finally {
      await out.close()
    }
    const got = hasher.digest('hex')
    if (got !== hash.hex) throw wrongHash(path, hash.hex, got)
    await rename(temporary, target)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** The whole file in pieces, from as many connections as it takes. */
async function* resumed({ path, hash: { size } }: RepoFile, read: Download['read']) {
  let received = 0
  let broken = 0
  while (received < size) {
    const before = received
    try {
      for await (const bytes of await read(received)) {
        received += bytes.length
        if (received > size) throw tooLong(path, size)
        yield { bytes, received }
      }
    } catch (error) {
      if (error instanceof PeertuneError) throw error
    }
    broken = received > before ? 0 : broken + 1
    if (received < size && broken >= HUB_LIMITS.resumes) throw truncated(path, received, size)
  }
}

const wrongHash = (path: string, expected: string, got: string): PeertuneError =>
  new PeertuneError('hub/wrong-hash', `${path} came with hash ${got}, expected ${expected}`, {
    facts: { path, expected, got },
    hint: 'what was received is thrown away; try again, or another mirror (HF_ENDPOINT)'
  })

const truncated = (path: string, got: number, expected: number): PeertuneError =>
  new PeertuneError('hub/truncated', `${path} broke off after ${got} of ${expected} bytes, again and again`, {
    facts: { path, expected, got },
    hint: 'try again later, or another mirror (HF_ENDPOINT)'
  })

const tooLong = (path: string, expected: number): PeertuneError =>
  new PeertuneError('hub/wrong-hash', `${path} has more than the ${expected} bytes that the hub announced`, {
    facts: { path, expected },
    hint: 'try another mirror (HF_ENDPOINT)'
  })
