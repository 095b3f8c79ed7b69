import type { Rng } from '../../base/rng.js'
import { emptyJournal, type Journal } from '../../consensus/exchange/journal.js'
import type { LogEntry } from '../../consensus/exchange/exchange-log.js'
import { initialRounds, type RoundsState } from '../../consensus/rounds.js'
import type { VirtualClock } from './virtual-clock.js'
import type { LearnerState } from './workload-types.js'

export interface Logged {
  /** Entries of the log that the checkpoint already contains. */
  readonly logged: number
}

/** All of one tick, as the daemon's checkpoint. */
export interface SimCheckpoint extends Logged {
  /** float32[size]; absent at the very beginning, where a peer's start is known anyway. */
  readonly parameters: Float32Array | undefined
  readonly journal: Journal
  readonly rounds: RoundsState
  /** float64[size]: what anything but exchanges with honest peers has added so far; for the books. */
  readonly moved: Float64Array | undefined
  /** Absent at the beginning, and where training has no state of its own. */
  readonly learner: LearnerState | undefined
  /** Exchanges in the parameters, for the ledger. */
  readonly exchanges: number
  /** By the peer's own clock; absent at the beginning. */
  readonly savedAtMs: number | undefined
}

export const BEGINNING: SimCheckpoint = {
  parameters: undefined,
  journal: emptyJournal,
  rounds: initialRounds,
  moved: undefined,
  learner: undefined,
  logged: 0,
  exchanges: 0,
  savedAtMs: undefined
}

/** What survives a crash: the last checkpoint and the log entries since, as far as they were safe by then. */
export interface SimDisk<Entry = LogEntry, Checkpoint extends Logged = SimCheckpoint> {
  append(entry: Entry): void
  /** When everything appended so far is safe. */
  safeAtMs(): number
  save(checkpoint: Omit<Checkpoint, 'logged'>): void
  /** Forgets what was not safe yet, save for a prefix the disk happened to have written. */
  crash(rng: Rng): void
  read(): { readonly checkpoint: Checkpoint; readonly entries: readonly Entry[] }
  /** Entries kept now, and the most there ever were. */
  size(): number
}

export interface DiskOptions<Checkpoint> {
  /** What is on it at first. */
  readonly beginning: Checkpoint
  readonly clock: VirtualClock
  readonly syncMs: number
  /** False where nobody crashes: nothing is kept, and only the time it would take passes. */
  readonly keeps: boolean
  /** Whether the exchange log is written. */
  readonly logs: boolean
  /** What is saved begins the file of the log anew: entries behind it survive with it or not at all. Default false. */
  readonly oneFile?: boolean
}

export function createDisk<Entry = LogEntry, Checkpoint extends Logged = SimCheckpoint>({
  clock,
  syncMs,
  keeps,
  logs,
  beginning,
  oneFile = false
}: DiskOptions<Checkpoint>): SimDisk<Entry, Checkpoint> {
  let entries: { readonly entry: Entry; readonly safeAtMs: number }[] = []
  /** Entries before `entries[0]` since the beginning. */
  let dropped = 0
  let safe = beginning
  let waiting: { readonly checkpoint: Checkpoint; readonly safeAtMs: number }[] = []
  let lastSafeMs = Number.NEGATIVE_INFINITY

  /** Checkpoints that are safe by now take effect: the log before them goes. */
  function catchUp(): void {
    const now = clock.now()
    for (const { checkpoint, safeAtMs } of waiting) if (safeAtMs <= now) safe = checkpoint
    waiting = waiting.filter(({ safeAtMs }) => safeAtMs > now)
    const surplus = Math.max(0, safe.logged - dropped)
    if (surplus === 0) return
    entries = entries.slice(surplus)
    dropped += surplus
  }
  return {
    append(entry) {
      if (!logs) return
      lastSafeMs = clock.now() + syncMs
      if (keeps) entries.push({ entry, safeAtMs: lastSafeMs })
    },
    safeAtMs: () => lastSafeMs,
    save(state) {
      if (!keeps) return
      catchUp()
      const checkpoint = { ...state, logged: dropped + entries.length } as Checkpoint
      waiting.push({ checkpoint, safeAtMs: clock.now() + syncMs })
    },
    crash(rng) {
      catchUp()
      const now = clock.now()
      const kept = entries.filter(({ safeAtMs }) => safeAtMs <= now).length
      const written = kept + rng.integer(entries.length - kept + 1)
      const lost = oneFile ? waiting[0] : undefined
      entries = entries.slice(0, lost === undefined ? written : Math.min(written, lost.checkpoint.logged - dropped))
      waiting = []
      lastSafeMs = Number.NEGATIVE_INFINITY
    },
    read: () => ({ checkpoint: safe, entries: entries.map(({ entry }) => entry) }),
    size: () => entries.length
  }
}
