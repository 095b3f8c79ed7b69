import { isPeertuneError, PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import { decodeCheckpoint, type DecodedCheckpoint } from './format.js'
import { copyState, type CheckpointIdentity, type NodeState } from './state.js'

/** One of the two checkpoints a store keeps. */
export interface Kept {
  /** For people. */
  readonly name: string
  /** Its bytes, or undefined where there is none. May reject with `checkpoint/corrupt`. */
  read(): Promise<Uint8Array | undefined>
  /** Told when it turned out to be damaged. */
  onDamaged?(): void
}

/** The rule of `CheckpointStore.load` over what is kept, newest first. */
export async function loadNewest(
  kept: readonly Kept[],
  expected: CheckpointIdentity,
  log: Logger
): Promise<NodeState | undefined> {
  let damaged: PeertuneError | undefined
  for (const one of kept) {
    try {
      const bytes = await one.read()
      if (bytes !== undefined) return unwrap(decodeCheckpoint(bytes, expected))
    } catch (error) {
      if (!isPeertuneError(error)) throw error
      const inFull = named(error, one.name)
      if (error.code !== 'checkpoint/corrupt') throw inFull
      log.warn({ ...inFull.facts }, `${inFull.message}; looking for the one before it`)
      one.onDamaged?.()
      damaged ??= inFull
    }
  }
  if (damaged !== undefined) throw damaged
  return undefined
}

function unwrap(outcome: DecodedCheckpoint): NodeState {
  if (outcome.ok) return outcome.state
  throw outcome.error
}

function named({ code, message, facts, hint }: PeertuneError, name: string): PeertuneError {
  return new PeertuneError(code, `${name}: ${message}`, {
    facts: { ...facts, checkpoint: name },
    hint: hint ?? 'move it away and start again'
  })
}

/**
 * The rule of `CheckpointStore.save`: one write at a time, and at most one state, the newest, that waits. `write` keeps nothing of
 * its state once it has settled.
 */
export function createSaver(write: (state: NodeState) => Promise<void>): (state: NodeState) => Promise<void> {
  let running: Promise<void> | undefined
  let next: { state: NodeState; readonly saved: Promise<void> } | undefined
  /** The copy that was last written. */
  let spare: NodeState | undefined

  const begin = (state: NodeState): Promise<void> => {
    const saved = write(state).finally(() => {
      spare = state
      if (running === saved) running = undefined
    })
    running = saved
    return saved
  }
  return (state) => {
    const copy = copyState(state, spare)
    spare = undefined
    // Asked first: between the end of one write and the start of the next, nothing runs but one still waits.
    if (next !== undefined) {
      next.state = copy
      return next.saved
    }
    if (running === undefined) return begin(copy)
    const after = () => {
      const { state: newest } = next!
      next = undefined
      return begin(newest)
    }
    // A write that failed was reported to whoever asked for it; the next one is tried all the same.
    next = { state: copy, saved: running.then(after, after) }
    return next.saved
  }
}
