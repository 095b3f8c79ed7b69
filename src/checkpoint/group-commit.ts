/** Entries that are appended while others are being written go to the disk together, one write after the other. */
export interface GroupCommit<Entry> {
  append(entry: Entry): void
  /** Resolves when everything appended so far is written. Rejects once a write has failed, and from then on. */
  synced(): Promise<void>
  /** Runs behind everything begun before. */
  inOrder(action: () => Promise<void>): Promise<void>
  /** Writes what waits; only from within `inOrder`. */
  flush(): Promise<void>
  /** Forgets what waits. */
  drop(): void
}

/** `write` gets one entry or more. */
export function createGroupCommit<Entry>(write: (entries: readonly Entry[]) => Promise<void>): GroupCommit<Entry> {
  let waiting: Entry[] = []
  let work: Promise<void> = Promise.resolve()
  /** The write that will take `waiting` along, where one has not begun yet. */
  let next: Promise<void> | undefined

  function inOrder(action: () => Promise<void>): Promise<void> {
    // Once the disk has failed nothing is safe any more, so everything behind it fails, too.
    work = work.then(action)
    // Whoever waits hears of it; without anybody waiting it must not end the process.
    work.catch(() => undefined)
    return work
  }
  async function flush(): Promise<void> {
    next = undefined
    const entries = waiting
    waiting = []
    if (entries.length > 0) await write(entries)
  }
  return {
    append: (entry) => void waiting.push(entry),
    synced() {
      if (waiting.length > 0) next ??= inOrder(flush)
      return next ?? work
    },
    inOrder,
    flush,
    drop() {
      waiting = []
    }
  }
}
