import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import type { BroadcastEntry } from '../consensus/broadcast-types.js'
import {
  type DecodedBroadcastLog,
  decodeBroadcastLog,
  encodeBroadcastEntry,
  encodeBroadcastHead
} from './broadcast-format.js'
import type { BroadcastBase, BroadcastLog } from './broadcast-log.js'
import type { LogIdentity } from './exchange-log.js'

/** Private data shapes the updates: nobody else on the machine reads them. */
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

const FILE_NAME = /^updates-(\d{12})\.log$/
const fileName = (number: number): string => `updates-${String(number).padStart(12, '0')}.log`

export interface FileBroadcastLogOptions {
  /** Made when it does not exist. One process writes to it at a time. */
  readonly directory: string
  readonly identity: LogIdentity
  readonly log: Logger
}

/**
 * One file, replaced by a shorter one when old updates have been added up: the new one is written beside it, forced to
 * the disk and renamed into its place in the order of names before the old one goes. A tail that a crash cut off is
 * written over.
 */
export function createFileBroadcastLog({ directory, identity, log }: FileBroadcastLogOptions): BroadcastLog {
  let number = 1
  let file: FileHandle | undefined
  /** Bytes of the file that are whole. */
  let end = 0
  let waiting: BroadcastEntry[] = []
  let work: Promise<void> = Promise.resolve()
  let next: Promise<void> | undefined

  function inOrder(action: () => Promise<void>): Promise<void> {
    // Once the disk has failed nothing is safe any more, so everything behind it fails, too.
    work = work.then(action)
    work.catch(() => undefined)
    return work
  }
  async function begin(base: BroadcastBase | undefined, entries: readonly BroadcastEntry[]): Promise<void> {
    await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE })
    const work = join(directory, 'updates.tmp')
    const fresh = await open(work, 'w', FILE_MODE)
    const bytes = Buffer.concat([...encodeBroadcastHead(identity, base), ...entries.flatMap(encodeBroadcastEntry)])
    await fresh.writeFile(bytes)
    await fresh.sync()
    await rename(work, join(directory, fileName(number)))
    await syncDirectory(directory)
    await file?.close()
    file = fresh
    end = bytes.length
  }
  async function flush(): Promise<void> {
    next = undefined
    const entries = waiting
    waiting = []
    if (entries.length === 0) return
    if (file === undefined) await begin(undefined, [])
    const bytes = Buffer.concat(entries.flatMap(encodeBroadcastEntry))
    await file!.write(bytes, 0, bytes.length, end)
    await file!.datasync()
    end += bytes.length
  }
  return {
    async load() {
      const found = await newest(directory, identity, log)
      if (found === undefined) return { base: undefined, entries: [] }
      number = found.number
      // What a crash cut off is dropped by writing the whole of it once more.
      await begin(found.base, found.entries)
      return { base: found.base, entries: found.entries }
    },
    append: (entry) => void waiting.push(entry),
    synced() {
      if (waiting.length > 0) next ??= inOrder(flush)
      return next ?? work
    },
    rebase: (now) =>
      inOrder(async () => {
        const { base, entries } = now()
        // They are in one of the two.
        waiting = []
        const before = join(directory, fileName(number))
        number++
        await begin(base, entries)
        await rm(before, { force: true })
      }),
    close: () =>
      inOrder(async () => {
        await flush()
        await file?.close()
        file = undefined
      })
  }
}

async function newest(
  directory: string,
  identity: LogIdentity,
  log: Logger
): Promise<(DecodedBroadcastLog & { readonly number: number }) | undefined> {
  for (const number of (await numbersIn(directory)).toSorted((a, b) => b - a)) {
    const path = join(directory, fileName(number))
    const decoded = decodeBroadcastLog(await readFile(path))
    if (decoded === undefined) {
      log.warn({ path }, 'a log of updates is damaged; looking for the one before it')
      continue
    }
    checkIdentity(decoded.identity, identity, path)
    return { ...decoded, number }
  }
  return undefined
}

async function numbersIn(directory: string): Promise<number[]> {
  try {
    return (await readdir(directory)).flatMap((name) => FILE_NAME.exec(name)?.[1] ?? []).map(Number)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function checkIdentity(found: LogIdentity, expected: LogIdentity, path: string): void {
  const federation = found.federationHash !== expected.federationHash
  if (!federation && found.schemaHash === expected.schemaHash && found.size === expected.size) return
  throw new PeertuneError(
    federation ? 'checkpoint/other-federation' : 'checkpoint/other-schema',
    `the log of updates belongs to another ${federation ? 'federation' : 'parameter schema'}`,
    { facts: { path }, hint: 'use one data directory for each federation' }
  )
}

/** Windows has no handle on a directory to force; its renames are journaled. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
