import type { Rng } from '../../base/rng.js'
import { type BroadcastRecord, rebased } from '../../consensus/broadcast/restart.js'
import type { BroadcastEntry } from '../../consensus/broadcast/types.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import { createDisk, type DiskOptions, type Logged } from '../world/disk.js'

/** A snapshot and what was behind it when the file was begun. */
interface Begun extends Logged, BroadcastRecord {}

/** All that was counted, on a simulated disk: the daemon's broadcast log. */
export interface SimBroadcastLog {
  append(entry: BroadcastEntry): void
  /** When everything appended so far is safe. */
  safeAtMs(): number
  /** Begins anew with the snapshot of what a broadcaster no longer holds, and with what it does. */
  rebase(broadcaster: Broadcaster): void
  read(): BroadcastRecord
  crash(rng: Rng): void
}

export function createSimBroadcastLog(options: Pick<DiskOptions<Begun>, 'clock' | 'syncMs' | 'keeps' | 'logs'>) {
  const beginning: Begun = { base: undefined, entries: [], logged: 0 }
  const disk = createDisk<BroadcastEntry, Begun>({ ...options, beginning, oneFile: true })
  const log: SimBroadcastLog = {
    append: disk.append,
    safeAtMs: disk.safeAtMs,
    rebase(broadcaster) {
      if (options.logs && options.keeps) disk.save(rebased(broadcaster))
    },
    read() {
      const { checkpoint, entries } = disk.read()
      return { base: checkpoint.base, entries: [...checkpoint.entries, ...entries] }
    },
    crash: disk.crash
  }
  return log
}
