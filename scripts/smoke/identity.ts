import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { entryUrl } from '../../src/base/entry.js'

/** A data directory's peer id, as the command line says it: made the first time, read the second. */
export async function checkIdentity(folder: string): Promise<string[]> {
  const args = [fileURLToPath(entryUrl('cli/main.js')), 'identity', '--data-dir', join(folder, 'identity')]
  const peerId = async () => (await promisify(execFile)(process.execPath, args)).stdout.trim()
  const made = await peerId()
  const read = await peerId()
  return made === read && made.startsWith('12D3KooW') ? [] : [`an identity was made as ${made} and read as ${read}`]
}
