import type { Clock } from '../../base/clock.js'
import { PeertuneError } from '../../base/errors.js'
import type { NodeState } from '../../checkpoint/state.js'
import { exchangeMade, initialRounds, type RoundsConfig, type RoundsState, stepTaken } from '../../consensus/rounds.js'
import type { LossReport } from '../participant/types.js'

/** Weight of the newest loss in the smoothed one: about the last twenty steps count. */
const LOSS_SMOOTHING = 0.1

/** Steps, exchanges and losses as they happen: the one place where `RoundsState` moves on. */
export interface Progress {
  rounds(): RoundsState
  setRounds(next: RoundsState): void
  stepped(loss: number): void
  exchanged(partnerPhase: RoundsState['phase']): void
  loss(): LossReport
  /** Milliseconds since this phase began or the last exchange that counted in it. */
  waitedMs(): number
  stepsPerSecond(): number
  /** Calls back whenever the phase changes. Returns a function that takes the listener off. */
  onPhase(listener: () => void): () => void
}

export function createProgress(start: RoundsState, config: RoundsConfig, clock: Clock): Progress {
  const listeners = new Set<() => void>()
  let rounds = start
  let loss: LossReport = {}
  let waitingSince = clock.now()
  let firstStep: { readonly atMs: number; readonly step: number } | undefined
  let lastStepAtMs = 0

  const setRounds = (next: RoundsState): void => {
    const changed = next.phase !== rounds.phase
    if (changed || next.settled !== rounds.settled) waitingSince = clock.now()
    rounds = next
    if (changed) for (const listener of listeners) listener()
  }
  return {
    rounds: () => rounds,
    setRounds,
    stepped(last) {
      const before = loss.smoothed ?? last
      loss = { last, smoothed: before + LOSS_SMOOTHING * (last - before) }
      setRounds(stepTaken(rounds, config))
      lastStepAtMs = clock.now()
      firstStep ??= { atMs: lastStepAtMs, step: rounds.step }
    },
    exchanged: (partnerPhase) => setRounds(exchangeMade(rounds, partnerPhase, config)),
    loss: () => loss,
    waitedMs: () => clock.now() - waitingSince,
    stepsPerSecond() {
      const elapsedMs = firstStep === undefined ? 0 : lastStepAtMs - firstStep.atMs
      return firstStep === undefined || elapsedMs === 0 ? 0 : ((rounds.step - firstStep.step) * 1000) / elapsedMs
    },
    onPhase(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    }
  }
}

/** The part of `RoundsState` that a checkpoint keeps beside the exchange journal. */
export type SavedRounds = Pick<RoundsState, 'lastExchangeStep' | 'settled'>

/** Where the last life ended. More steps in the configuration than before mean that there is more to learn. */
export function restoreRounds(
  saved: NodeState | undefined,
  { lastExchangeStep, settled }: SavedRounds,
  config: RoundsConfig
): RoundsState {
  if (saved === undefined) return initialRounds
  const { step, exchanges, phase } = saved
  if (phase !== 'training' && phase !== 'settling' && phase !== 'done')
    throw new PeertuneError('checkpoint/corrupt', `the checkpoint names a phase that there is not: ${phase}`, {
      facts: { expected: ['training', 'settling', 'done'], got: phase }
    })
  if (step < config.totalSteps) return { phase: 'training', step, exchanges, lastExchangeStep, settled: 0 }
  return { phase: phase === 'training' ? 'settling' : phase, step, exchanges, lastExchangeStep, settled }
}
