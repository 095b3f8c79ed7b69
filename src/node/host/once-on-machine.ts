import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { writePrivateFile } from './private-file.js'

/**
 * Runs a check that nothing on this machine can change the outcome of; once it has answered true, an empty file `record` says
 * so. False: nothing was found against it, and nothing was proved either.
 */
export async function onceOnMachine(record: string, check: () => Promise<boolean>): Promise<void> {
  if (await exists(record)) return
  if (!(await check())) return
  // A cache that cannot be written costs time and nothing else.
  await mkdir(dirname(record), { recursive: true })
    .then(() => writePrivateFile(record, ''))
    .catch(() => undefined)
}

const exists = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false
  )
