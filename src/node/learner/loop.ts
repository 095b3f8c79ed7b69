import type { Clock } from '../../base/clock.js'
import {
  type NextMove,
  nextMove,
  type RoundsConfig,
  type RoundsState,
  type Surroundings,
  waited
} from '../../consensus/rounds.js'

/** Milliseconds until a peer with nothing to do looks again: for a partner that is free, for news of the others. */
export const IDLE_MS = 25

/** Everything the story needs, each piece with one job. */
export interface LoopParts {
  readonly config: RoundsConfig
  readonly rounds: { get(): RoundsState; set(next: RoundsState): void }
  /** One batch, one gradient, one update; counts itself in `rounds`. */
  readonly localStep: () => Promise<void>
  /**
   * Tries one exchange with a random partner, or only to settle one in doubt; resolves when it has ended, well or not.
   */
  readonly mix: (options: { readonly doubtsOnly: boolean }) => Promise<unknown>
  readonly surroundings: () => Surroundings
  /** Saves if enough has happened since the last time. Called between two steps only. */
  readonly maybeSave: () => void
  readonly onDone: () => Promise<void>
  readonly clock: Clock
}

/**
 * The life of a peer: local steps, an exchange every `localSteps` beside them, then gossip only, then answering others.
 * Resolves when the signal aborts; rejects when training cannot go on.
 */
export async function runLoop(parts: LoopParts, signal: AbortSignal): Promise<void> {
  const { config, rounds, clock } = parts
  let reported = false
  while (!signal.aborted) {
    await makeMove(parts, nextMove(rounds.get(), parts.surroundings(), config), signal)
    rounds.set(waited(rounds.get(), parts.surroundings(), config))
    parts.maybeSave()
    if (rounds.get().phase !== 'done') continue
    if (!reported && !signal.aborted) await parts.onDone()
    reported = true
    await clock.sleep(IDLE_MS, signal).catch(() => undefined)
  }
}

async function makeMove(parts: LoopParts, move: NextMove, signal: AbortSignal): Promise<void> {
  const mixing = move.exchange || move.resolve ? parts.mix({ doubtsOnly: !move.exchange }) : undefined
  // Training goes on while an exchange is under way: its increment is added to whatever the parameters are by then.
  if (move.train) return parts.localStep()
  if ((await mixing) !== 'committed') await parts.clock.sleep(IDLE_MS, signal).catch(() => undefined)
}
