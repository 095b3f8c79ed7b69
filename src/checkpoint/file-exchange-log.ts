import { type FileHandle, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import type { LogEntry } from '../consensus/exchange-log.js'
import type { ExchangeLog, LogIdentity } from './exchange-log.js'
import { decodeSegment, encodeEntry, encodeRecord, LOG_MAGIC, type LogHead } from './log-format.js'

/** Private data shapes the increments: nobody else on the machine reads them. */
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

const SEGMENT_NAME = /^exchanges-(\d{12})\.log$/
const segmentName = (first: number): string => `exchanges-${String(first).padStart(12, '0')}.log`

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
  let waiting: LogEntry[] = []
  let segment: Segment | undefined
  /** Everything asked for so far, one after the other. */
  let work: Promise<void> = Promise.resolve()
  /** The write that will take `waiting` along, where one has not begun yet. */
  let next: Promise<void> | undefined

  async function begin(first: number): Promise<Segment> {
    await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE })
    const file = await openFile(join(directory, segmentName(first)))
    const head: LogHead = { ...identity, first }
    await file.writev([LOG_MAGIC, ...(await politely(encodeRecord(head)))])
    await syncDirectory(directory)
    return { first, file }
  }
  async function flush(): Promise<void> {
    next = undefined
    const entries = waiting
    waiting = []
    if (entries.length === 0) return
    segment ??= await begin(last - entries.length + 1)
    const pieces: Uint8Array[] = []
    for (const entry of entries) pieces.push(...(await politely(encodeEntry(entry))))
    await segment.file.writev(pieces)
    await segment.file.datasync()
  }
  function inOrder(action: () => Promise<void>): Promise<void> {
    // Once the disk has failed nothing is safe any more, so everything behind it fails, too.
    work = work.then(action)
    // Whoever waits hears of it; without anybody waiting it must not end the process.
    work.catch(() => undefined)
    return work
  }
  async function closeSegment(): Promise<void> {
    await flush()
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
      waiting.push(entry)
      last++
    },
    synced() {
      if (waiting.length > 0) next ??= inOrder(flush)
      return next ?? work
    },
    sequence: () => last,
    trim: (upTo) =>
      inOrder(async () => {
        await closeSegment()
        const firsts = await segmentsIn(directory)
        // A segment ends where the next one begins.
        for (const [i, first] of firsts.entries())
          if ((firsts[i + 1] ?? last + 1) <= upTo + 1) await rm(join(directory, segmentName(first)), { force: true })
      }),
    close: () => inOrder(closeSegment)
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

async function segmentsIn(directory: string): Promise<number[]> {
  try {
    const names = await readdir(directory)
    // Checkpoints lie beside the segments.
    const firsts = names.flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? []).map(Number)
    return firsts.toSorted((a, b) => a - b)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

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
  for (const first of await segmentsIn(directory)) {
    const path = join(directory, segmentName(first))
    const decoded = decodeSegment(await readFile(path))
    if (decoded !== undefined) checkIdentity(decoded.head, identity, path)
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

function checkIdentity(head: LogIdentity, expected: LogIdentity, path: string): void {
  if (head.federationHash === expected.federationHash && head.schemaHash === expected.schemaHash) return
  const federation = head.federationHash !== expected.federationHash
  throw new PeertuneError(
    federation ? 'checkpoint/other-federation' : 'checkpoint/other-schema',
    `the exchange log belongs to another ${federation ? 'federation' : 'parameter schema'}`,
    { facts: { path }, hint: 'use one data directory for each federation' }
  )
}

/** Windows has no handle on a directory to force; its file creation is journaled. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
