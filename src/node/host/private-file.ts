import { open, rename, rm } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { isDiskFull, reasonOf } from '../../base/system-error.js'

/**
 * Writes a file only its owner can read (0600), whole or not at all: a temporary file beside it, flushed, then renamed.
 * `flag: 'wx'` makes the temporary file ours alone; an older left-over is removed first. Throws `config/disk-full` and
 * `config/unwritable-file`, naming the file, and leaves nothing behind then.
 */
export async function writePrivateFile(file: string, content: Uint8Array | string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`
  try {
    await rm(temporary, { force: true })
    await writeFlushed(temporary, content)
    await rename(temporary, file)
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw unwritable(file, cause)
  }
}

async function writeFlushed(file: string, content: Uint8Array | string): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function unwritable(file: string, cause: unknown): PeertuneError {
  const got = reasonOf(cause)
  if (isDiskFull(cause))
    return new PeertuneError('config/disk-full', `${file}: expected room to write it, got ${got}`, {
      facts: { file },
      hint: 'make room there, or use a folder on another disk',
      cause
    })
  return new PeertuneError('config/unwritable-file', `${file}: expected a file this user can write, got ${got}`, {
    facts: { file },
    hint: 'let this user write to the folder that it lies in, or name another one',
    cause
  })
}
