import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../base/log.js'
import type { BroadcastBase, BroadcastEntry } from '../consensus/broadcast/types.js'
import {
  type DecodedBroadcastLog,
  decodeBroadcastLog,
  encodeBroadcastEntry,
  encodeBroadcastHead
} from './broadcast-format.js'
import type { BroadcastLog } from './broadcast-log.js'
import { createGroupCommit } from './group-commit.js'
import { checkIdentity, type LogIdentity } from './log-identity.js'
import { FILE_MODE, makeDirectory, numberedFiles, syncDirectory } from './private-files.js'

const FILES = numberedFiles('updates')

export interface FileBroadcastLogOptions {
  /** Made when it does not exist. One process writes to it at a time. */
  readonly directory: string
  readonly identity: LogIdentity
  readonly log: Logger
}

/**
 * One file, replaced by a shorter one when old updates have been compacted: the new one is written beside it, forced to
 * the disk and renamed into its place in the order of names before the old one goes. A tail that a crash cut off is
 * written over.
 */
export function createFileBroadcastLog({ directory, identity, log }: FileBroadcastLogOptions): BroadcastLog {
  let number = 1
  let file: FileHandle | undefined
  /** Bytes of the file that are whole. */
  let end = 0
  const commits = createGroupCommit(write)

  async function begin(base: BroadcastBase | undefined, entries: readonly BroadcastEntry[]): Promise<void> {
    await makeDirectory(directory)
    const work = join(directory, 'updates.tmp')
    const fresh = await open(work, 'w', FILE_MODE)
    const bytes = Buffer.concat([...encodeBroadcastHead(identity, base), ...entries.flatMap(encodeBroadcastEntry)])
    await fresh.writeFile(bytes)
    await fresh.sync()
    await rename(work, join(directory, FILES.nameOf(number)))
    await syncDirectory(directory)
    await file?.close()
    file = fresh
    end = bytes.length
  }
  async function write(entries: readonly BroadcastEntry[]): Promise<void> {
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
    append: commits.append,
    synced: commits.synced,
    rebase: (now) =>
      commits.inOrder(async () => {
        const { base, entries } = now()
        // They are in one of the two.
        commits.drop()
        const before = join(directory, FILES.nameOf(number))
        number++
        await begin(base, entries)
        await rm(before, { force: true })
      }),
    close: () =>
      commits.inOrder(async () => {
        await commits.flush()
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
  for (const number of (await FILES.numbersIn(directory)).toReversed()) {
    const path = join(directory, FILES.nameOf(number))
    const decoded = decodeBroadcastLog(await readFile(path))
    if (decoded === undefined) {
      log.warn({ path }, 'a log of updates is damaged; looking for the one before it')
      continue
    }
    checkIdentity(decoded.identity, identity, { what: 'log of updates', path })
    return { ...decoded, number }
  }
  return undefined
}
