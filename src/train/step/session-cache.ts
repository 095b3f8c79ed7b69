import type { BatchShapes, ProgramKind } from './program.js'

/**
 * Sessions kept ready at once. Training and evaluation with full batches and the short last one need four; a session
 * holds its activations (tens of megabytes), its weights are shared.
 */
export const MAX_SESSIONS = 4

export interface SessionCacheOptions<T> {
  readonly open: (kind: ProgramKind, shapes: BatchShapes) => Promise<T>
  readonly close: (entry: T) => Promise<void>
  readonly maxSessions?: number
}

export interface SessionCache<T> {
  /** The entry of this kind and these shapes; opens it, and closes the least recently used beyond the bound. */
  get(kind: ProgramKind, shapes: BatchShapes): Promise<T>
  close(): Promise<void>
}

/** Least recently used first. Callers take turns: an entry is not closed while another call still runs it. */
export function createSessionCache<T>(options: SessionCacheOptions<T>): SessionCache<T> {
  const { open, close, maxSessions = MAX_SESSIONS } = options
  const entries = new Map<string, T>()
  return {
    async get(kind, shapes) {
      const key = bucketKey(kind, shapes)
      const known = entries.get(key)
      entries.delete(key)
      if (known === undefined) await makeRoom()
      const entry = known ?? (await open(kind, shapes))
      entries.set(key, entry)
      return entry
    },
    async close() {
      const all = [...entries.values()]
      entries.clear()
      for (const entry of all) await close(entry)
    }
  }

  async function makeRoom(): Promise<void> {
    for (const [key, entry] of entries) {
      if (entries.size < maxSessions) return
      entries.delete(key)
      await close(entry)
    }
  }
}

const bucketKey = (kind: ProgramKind, shapes: BatchShapes): string =>
  `${kind} ${Object.keys(shapes)
    .sort()
    .map((name) => `${name}[${shapes[name]}]`)
    .join(' ')}`
