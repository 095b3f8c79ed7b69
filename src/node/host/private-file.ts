import { open, rename, rm } from 'node:fs/promises'

/**
 * Writes a file only its owner can read (0600), whole or not at all: a temporary file beside it, flushed, then renamed.
 * `flag: 'wx'` makes the temporary file ours alone; an older left-over is removed first.
 */
export async function writePrivateFile(file: string, content: Uint8Array | string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`
  await rm(temporary, { force: true })
  const handle = await open(temporary, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, file)
}
