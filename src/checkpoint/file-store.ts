import { type FileHandle, open, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import { encodeCheckpoint, leastCheckpointBytes, MAX_CHECKPOINT_BYTES } from './format.js'
import { createSaver, loadNewest } from './newest-first.js'
import { FILE_MODE, isMissing, makeDirectory, syncDirectory } from './private-files.js'
import type { NodeState } from './state.js'
import type { CheckpointStore } from './store.js'

export const NEWEST_FILE = 'checkpoint.bin'
export const PREVIOUS_FILE = 'checkpoint-previous.bin'
export const WORK_FILE = 'checkpoint.tmp'

/** The calls that change the disk; tests cut the power at each of them. */
export interface CheckpointFiles {
  open(path: string, flags: string, mode?: number): Promise<Pick<FileHandle, 'writeFile' | 'sync' | 'close'>>
  rename(from: string, to: string): Promise<void>
}

export interface FileStoreOptions {
  /** Made when it does not exist. One process writes to it at a time. */
  readonly directory: string
  readonly log: Logger
  readonly files?: CheckpointFiles
}

/**
 * Two files in `directory`. A state is written beside them, forced to the disk, and only then renamed into place, the
 * newest before it becoming the previous one; the directory is forced to the disk last (see rename(2) and fsync(2)).
 * Between the two renames there is no newest file, and the previous one is whole. A newest file that `load` found
 * damaged is written over instead: it must not take the place of the whole one.
 */
export function createFileStore({ directory, log, files = { open, rename } }: FileStoreOptions): CheckpointStore {
  const work = join(directory, WORK_FILE)
  const newest = join(directory, NEWEST_FILE)
  const previous = join(directory, PREVIOUS_FILE)
  let newestIsDamaged = false
  const onDamaged = () => {
    newestIsDamaged = true
  }
  return {
    save: createSaver(async (state) => {
      await makeDirectory(directory)
      await writeState(files, work, state)
      if (!newestIsDamaged) await renameIfThere(files, newest, previous)
      await files.rename(work, newest)
      newestIsDamaged = false
      await syncDirectory(directory, files)
    }),
    load: (expected) =>
      loadNewest(
        [
          { name: newest, read: () => readBounded(newest), onDamaged },
          { name: previous, read: () => readBounded(previous) }
        ],
        expected,
        log
      )
  }
}

/**
 * Bytes that checkpoints of so many parameters will take in `directory` beyond what is there, at least: the newest, the one
 * before it, and the one that is being written.
 */
export async function bytesWanted(directory: string, size: number): Promise<number> {
  const least = leastCheckpointBytes(size)
  const sizeOf = (name: string) =>
    stat(join(directory, name)).then(
      (found) => Math.min(found.size, least),
      () => 0
    )
  const there = await Promise.all([NEWEST_FILE, PREVIOUS_FILE, WORK_FILE].map(sizeOf))
  return there.reduce((wanted, bytes) => wanted - bytes, 3 * least)
}

async function writeState(files: CheckpointFiles, path: string, state: NodeState): Promise<void> {
  const slices = encodeCheckpoint(state)
  const file = await files.open(path, 'w', FILE_MODE)
  try {
    for (const slice of slices) await file.writeFile(slice)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function renameIfThere(files: CheckpointFiles, from: string, to: string): Promise<void> {
  try {
    await files.rename(from, to)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

async function readBounded(path: string): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path)
    if (size > MAX_CHECKPOINT_BYTES) throw tooLarge(path, size)
    return await readFile(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function tooLarge(path: string, bytes: number): PeertuneError {
  return new PeertuneError('checkpoint/corrupt', 'the checkpoint is damaged: it is larger than any can be', {
    facts: { path, bytes, maxBytes: MAX_CHECKPOINT_BYTES }
  })
}
