import type { ReadProgress } from './row.js'

/** What whoever opens a data source may want of it. */
export interface OpenOptions {
  /** Ends the reading with the signal's reason. */
  readonly signal?: AbortSignal
  /** Called some times a second while something large is read. */
  readonly onProgress?: (progress: ReadProgress) => void
}

export type { ReadProgress }

/** Passes on every tenth of a file and its end: what a log has use for. */
export function inTenths(report: (progress: ReadProgress) => void): (progress: ReadProgress) => void {
  const reached = new Map<string, number>()
  return (progress) => {
    const tenth = Math.floor((10 * progress.bytes) / Math.max(1, progress.totalBytes))
    if (tenth <= (reached.get(progress.file) ?? 0)) return
    reached.set(progress.file, tenth)
    report(progress)
  }
}
