import type { CheckpointIdentity, NodeState } from './state.js'

/** Where one node keeps its last two checkpoints. Implementations: files, and memory. */
export interface CheckpointStore {
  /**
   * Keeps the state of the moment of the call, which may change right after. Resolves when a state at least as new is
   * safe from a crash; while one is being written, only the newest of those that wait is written next.
   * After a crash at any moment, `load` gives the state before or after, whole.
   */
  save(state: NodeState): Promise<void>
  /**
   * The newest whole state, or undefined where nothing was ever saved. When the newest is damaged, the one before it,
   * with a warning in the log. Rejects with `checkpoint/corrupt` when none is whole, `checkpoint/unsupported-version`,
   * `checkpoint/other-federation` and `checkpoint/other-schema`.
   */
  load(expected: CheckpointIdentity): Promise<NodeState | undefined>
}
