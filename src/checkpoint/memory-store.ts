import { type Logger, silentLogger } from '../base/log.js'
import { encodeCheckpoint } from './format.js'
import { createSaver, loadNewest } from './newest-first.js'
import type { CheckpointStore } from './store.js'

/** The bytes kept, newest first; what a disk would hold. */
export interface CheckpointMemory {
  newest?: Uint8Array
  previous?: Uint8Array
}

/** A store without a disk, for simulations and tests. It goes through the same bytes as the file store. */
export function createMemoryStore({
  memory = {},
  log = silentLogger
}: {
  readonly memory?: CheckpointMemory
  readonly log?: Logger
} = {}): CheckpointStore {
  let newestIsDamaged = false
  const onDamaged = () => {
    newestIsDamaged = true
  }
  return {
    save: createSaver(async (state) => {
      const bytes = Buffer.concat([...encodeCheckpoint(state)])
      if (memory.newest !== undefined && !newestIsDamaged) memory.previous = memory.newest
      memory.newest = bytes
      newestIsDamaged = false
    }),
    load: (expected) =>
      loadNewest(
        [
          { name: 'newest', read: async () => memory.newest, onDamaged },
          { name: 'previous', read: async () => memory.previous }
        ],
        expected,
        log
      )
  }
}
