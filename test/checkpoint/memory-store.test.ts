import { type CheckpointMemory, createMemoryStore } from '../../src/checkpoint/memory-store.js'
import { checkpointStoreSuite } from './store-suite.js'

checkpointStoreSuite('the memory store', async (log) => {
  const memory: CheckpointMemory = {}
  return {
    store: createMemoryStore({ memory, log }),
    reopen: () => createMemoryStore({ memory, log }),
    async damage(which) {
      memory[which] = memory[which]!.subarray(0, -5)
    }
  }
})
