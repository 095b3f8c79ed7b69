import type { BroadcastBase, BroadcastEntry } from '../consensus/broadcast/types.js'

/** All that has been counted, on disk before anybody is told of it: a snapshot, and the updates behind it. */
export interface BroadcastLog {
  /**
   * What is kept, as far as it is whole. Called once, before anything is appended. Rejects with
   * `checkpoint/other-federation` and `checkpoint/other-schema`.
   */
  load(): Promise<{ readonly base: BroadcastBase | undefined; readonly entries: readonly BroadcastEntry[] }>
  append(entry: BroadcastEntry): void
  /** Resolves when everything appended so far is safe from a crash. Rejects once the disk has failed, and from then on. */
  synced(): Promise<void>
  /**
   * Begins anew with a snapshot and what is left behind it, both as they are when it is their turn; what was before is forgotten
   * once the new one is safe.
   */
  rebase(now: () => { readonly base: BroadcastBase; readonly entries: readonly BroadcastEntry[] }): Promise<void>
  /** Writes what is left. Idempotent. */
  close(): Promise<void>
}
