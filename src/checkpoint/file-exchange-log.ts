import { type FileHandle, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../base/log.js'
import type { LogEntry } from '../consensus/exchange/exchange-log.js'
import type { ExchangeLog } from './exchange-log.js'
import { createGroupCommit } from './group-commit.js'
import { decodeSegment, encodeEntry, encodeHead, LOG_MAGIC } from './log-format.js'
import { checkIdentity, type LogIdentity } from './log-identity.js'
import { FILE_MODE, makeDirectory, numberedFiles, syncDirectory } from './private-files.js'

const SEGMENTS = numberedFiles('exchanges')

export interface FileExchangeLogOptions {
  /** Made when it does not exist. One process writes to it at a time. */
  readonly directory: string
  readonly identity: LogIdentity
  readonly log: Logger
  /** Opens a segment; tests let the disk fail here. */
  readonly openFile?: (path: string) => Promise<Pick<FileHandle, 'writev' | 'datasync' | 'close'>>
}

interface Segment {
  readonly first: number
  readonly file: Pick<FileHandle, 'writev' | 'datasync' | 'close'>
}

/**
 * Segments in `directory`, one for each checkpoint and one for each start: what a checkpoint has made superfluous goes as
 * whole files, and nothing is ever written behind a record that a crash cut off. Entries that are appended while others
 * are being written go to the disk together (group commit).
 */
export function createFileExchangeLog(options: FileExchangeLogOptions): ExchangeLog {
  const { directory, identity, openFile = openSegment } = options
  let last = 0
  let segment: Segment | undefined
  const commits = createGroupCommit(write)

  async function begin(first: number): Promise<Segment> {
    await makeDirectory(directory)
    const file = await openFile(join(directory, SEGMENTS.nameOf(first)))
    await file.writev([LOG_MAGIC, ...(await politely(encodeHead({ ...identity, first })))])
    await syncDirectory(directory)
    return { first, file }
  }
  async function write(entries: readonly LogEntry[]): Promise<void> {
    segment ??= await begin(last - entries.length + 1)
    const pieces: Uint8Array[] = []
    for (const entry of entries) pieces.push(...(await politely(encodeEntry(entry))))
    await segment.file.writev(pieces)
    await segment.file.datasync()
  }
  async function closeSegment(): Promise<void> {
    await commits.flush()
    await segment?.file.close()
    segment = undefined
  }
  return {
    async load(after) {
      // What is behind a gap goes: its numbers will be used again.
      const entries = await readSegments(options, after, (path) => rm(path, { force: true }))
      last = after + entries.length
      return entries
    },
    append(entry) {
      commits.append(entry)
      last++
    },
    synced: commits.synced,
    sequence: () => last,
    trim: (upTo) =>
      commits.inOrder(async () => {
        await closeSegment()
        const firsts = await SEGMENTS.numbersIn(directory)
        // A segment ends where the next one begins.
        for (const [i, first] of firsts.entries())
          if ((firsts[i + 1] ?? last + 1) <= upTo + 1)
            await rm(join(directory, SEGMENTS.nameOf(first)), { force: true })
      }),
    close: () => commits.inOrder(closeSegment)
  }
}

/** Runs to the end, with a turn for everybody else between two slices. */
async function politely<T>(slices: Generator<undefined, T, undefined>): Promise<T> {
  for (let next = slices.next(); ; next = slices.next()) {
    if (next.done) return next.value
    await new Promise(setImmediate)
  }
}

/** A name that is taken is that of a segment whose entries were all damaged or in the checkpoint: it is written over. */
const openSegment = (path: string) => open(path, 'w', FILE_MODE)

/** As `ExchangeLog.load`, but only looks: the node that writes the log may be running. */
export const readExchangeLog = (
  options: Pick<FileExchangeLogOptions, 'directory' | 'identity' | 'log'>,
  after: number
): Promise<readonly LogEntry[]> => readSegments(options, after, () => Promise.resolve())

async function readSegments(
  { directory, identity, log }: Pick<FileExchangeLogOptions, 'directory' | 'identity' | 'log'>,
  after: number,
  dropBehindGap: (path: string) => Promise<void>
): Promise<readonly LogEntry[]> {
  const entries: LogEntry[] = []
  for (const first of await SEGMENTS.numbersIn(directory)) {
    const path = join(directory, SEGMENTS.nameOf(first))
    const decoded = decodeSegment(await readFile(path))
    if (decoded !== undefined) checkIdentity(decoded.head, identity, { what: 'exchange log', path })
    const here = decoded?.entries ?? []
    const wanted = after + entries.length + 1
    if (first > wanted) {
      log.warn({ path, expected: wanted, got: first }, 'the exchange log has a gap; what is behind it is left out')
      await dropBehindGap(path)
      continue
    }
    entries.push(...here.slice(wanted - first))
  }
  return entries
}
