import type { LogEntry } from '../consensus/exchange/exchange-log.js'

/**
 * The exchanges made since the last checkpoint, on disk before anybody is told of them. Entries are numbered from 1 for
 * the whole life of a node; a checkpoint remembers the number of the last one that it contains.
 */
export interface ExchangeLog {
  /**
   * The entries behind number `after` up to the first that is missing or damaged, oldest first; numbering goes on behind
   * them. Called once, before anything is appended. Rejects with `checkpoint/other-federation` and
   * `checkpoint/other-schema`.
   */
  load(after: number): Promise<readonly LogEntry[]>
  /** Takes an entry in; its increment must not change any more. */
  append(entry: LogEntry): void
  /** Resolves when everything appended so far is safe from a crash. Rejects once the disk has failed, and from then on. */
  synced(): Promise<void>
  /** Number of the last entry appended; 0 before the first. */
  sequence(): number
  /** A checkpoint that is safe contains the entries up to here: they may be forgotten. */
  trim(upTo: number): Promise<void>
  /** Writes what is left. Idempotent. */
  close(): Promise<void>
}
