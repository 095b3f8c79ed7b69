import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { isDiskFull, reasonOf } from '../../base/system-error.js'

/** Bytes that a node writes before it trains, with some to spare: keys, records, peers it met. */
const FIRST_BYTES = 2 ** 20
const MEGABYTE = 2 ** 20

/**
 * Writes as much as a start does and takes it away again: quotas and reserves are known to the system alone. Throws
 * `config/disk-full` and what else the system says.
 */
export async function checkRoom(dataDir: string): Promise<void> {
  const probe = join(dataDir, `room.${process.pid}.tmp`)
  try {
    await writeFile(probe, new Uint8Array(FIRST_BYTES), { mode: 0o600, flush: true })
  } catch (cause) {
    throw isDiskFull(cause) ? diskFull(dataDir, 'for what a node writes', reasonOf(cause), cause) : cause
  } finally {
    await rm(probe, { force: true })
  }
}

/** Throws `config/disk-full` where the disk has less than `bytes` left for `what`. */
export async function requireRoom(dataDir: string, bytes: number, what: string): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(dataDir)
  // Some file systems do not tell.
  if (blocks === 0 || bavail * bsize >= bytes) return
  const [wanted, free] = [bytes, bavail * bsize].map((one) => `${(one / MEGABYTE).toFixed(1)} MB`)
  throw diskFull(dataDir, `of ${wanted} for ${what}`, `${free}`)
}

export const diskFull = (dataDir: string, wanted: string, got: string, cause?: unknown): PeertuneError =>
  new PeertuneError('config/disk-full', `dataDir: expected room ${wanted} in ${dataDir}, got ${got}`, {
    facts: { dataDir },
    hint: 'make room there, or name a folder on another disk: --data-dir DIR',
    cause
  })
