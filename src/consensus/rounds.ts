import type { Phase } from '../codec/wire/messages.js'

/** When a peer trains, mixes and stops. Peers have no common clock: each counts its own steps and exchanges. */
export interface RoundsConfig {
  /** Local steps between exchanges (H). */
  readonly localSteps: number
  /** Local steps in all; then the learning rate is 0 and only gossip goes on. */
  readonly totalSteps: number
  /** Exchanges with settling or done partners after the last local step: 12 shrink disagreement 100-fold up to 64 peers. */
  readonly settleExchanges: number
  /** Local steps since the last exchange (contact), as a multiple of `localSteps`, at which a peer that knows others waits. */
  readonly isolationFactor: number
  /** Milliseconds without a counted exchange after which a settling peer is done: the others are gone or far behind. */
  readonly settleWaitMs?: number
  /** Milliseconds a settling peer waits for those that still train before it settles with who is there. */
  readonly settlePatienceMs?: number
  /** As `settleWaitMs` while no other peer is known at all. */
  readonly aloneWaitMs?: number
}

/** Ten minutes: a partner with a tenth of our speed still finds us settling after a run of an hour. */
export const SETTLE_WAIT_MS = 600_000
/** Five minutes: time for a peer of half our speed to end a run of five. */
export const SETTLE_PATIENCE_MS = 300_000
/** Half a minute: time for a bootstrap address to be redialled a few times. */
export const ALONE_WAIT_MS = 30_000

/** Plain JSON, part of the checkpoint. Times are kept out of it: after a restart waiting starts anew. */
export interface RoundsState {
  readonly phase: Phase
  /** Local steps taken. */
  readonly step: number
  /** `step` at the last exchange in either role; where peers broadcast, at the last contact with anybody. */
  readonly lastExchangeStep: number
  /** Exchanges committed in either role. */
  readonly exchanges: number
  /** Exchanges that count towards `settleExchanges`. */
  readonly settled: number
}

export const initialRounds: RoundsState = { phase: 'training', step: 0, lastExchangeStep: 0, exchanges: 0, settled: 0 }

/** A local optimiser step was taken. The last one starts settling. */
export function stepTaken(state: RoundsState, { totalSteps }: RoundsConfig): RoundsState {
  const step = state.step + 1
  return { ...state, step, phase: state.phase === 'training' && step >= totalSteps ? 'settling' : state.phase }
}

/** An exchange was committed, in either role. Those with a partner that still trains do not settle anything. */
export function exchangeMade(state: RoundsState, partnerPhase: Phase, { settleExchanges }: RoundsConfig): RoundsState {
  const counts = state.phase === 'settling' && partnerPhase !== 'training'
  const settled = state.settled + (counts ? 1 : 0)
  const phase = state.phase === 'settling' && settled >= settleExchanges ? 'done' : state.phase
  return { ...state, phase, settled, exchanges: state.exchanges + 1, lastExchangeStep: state.step }
}

/** A settling peer that has waited long enough is done. `waitedMs`: since settling began or the last counted exchange. */
export function waited(
  state: RoundsState,
  { waitedMs, peersKnown }: Pick<Surroundings, 'waitedMs' | 'peersKnown'>,
  { settleExchanges, settleWaitMs = SETTLE_WAIT_MS, aloneWaitMs = ALONE_WAIT_MS }: RoundsConfig
): RoundsState {
  if (state.phase !== 'settling') return state
  const enough = state.settled >= settleExchanges || waitedMs >= (peersKnown ? settleWaitMs : aloneWaitMs)
  return enough ? { ...state, phase: 'done' } : state
}

/** Where peers broadcast: something of somebody was heard, or all of ours was told to somebody. */
export const contactMade = (state: RoundsState): RoundsState => ({ ...state, lastExchangeStep: state.step })

/** Knows others and has been without them for so many local steps that it waits for them: far from them it only overfits. */
export const isIsolated = (
  { phase, step, lastExchangeStep }: RoundsState,
  { peersKnown }: Pick<Surroundings, 'peersKnown'>,
  { isolationFactor, localSteps }: RoundsConfig
): boolean => phase === 'training' && peersKnown && step - lastExchangeStep >= isolationFactor * localSteps

/** What a peer does next. `train` may go with the others: local training goes on during an exchange. */
export interface NextMove {
  readonly train: boolean
  readonly exchange: boolean
  /** No exchange is due, but one in doubt should be settled. */
  readonly resolve: boolean
}

/** The others, as far as they are known. */
export interface Surroundings {
  readonly peersKnown: boolean
  /** Somebody present has local steps to take. */
  readonly othersTraining: boolean
  /** Milliseconds since this phase began or the last exchange that counted in it. */
  readonly waitedMs: number
  /** We are in doubt about an exchange: only another contact can settle it. */
  readonly inDoubt: boolean
}

/**
 * Training: an exchange is due `localSteps` after the last one in either role; a peer that knows others but reaches none
 * stops training after `isolationFactor * localSteps`, since far from the others it only overfits. A peer that knows
 * nobody trains on: there is nobody to stay close to. Settling: exchange whenever a partner is to be had, but not before
 * the others have arrived; two early peers that agree with each other a dozen times have agreed with nobody else. A peer
 * in doubt asks even when it is done: its partner may have applied what it has not.
 */
export function nextMove(
  state: RoundsState,
  { peersKnown, othersTraining, waitedMs, inDoubt }: Surroundings,
  config: RoundsConfig
): NextMove {
  if (state.phase !== 'training') {
    const gathered = !othersTraining || waitedMs >= (config.settlePatienceMs ?? SETTLE_PATIENCE_MS)
    const exchange = state.phase === 'settling' && peersKnown && gathered
    return { train: false, exchange, resolve: inDoubt && !exchange }
  }
  const alone = state.step - state.lastExchangeStep
  return {
    train: !isIsolated(state, { peersKnown }, config),
    exchange: peersKnown && alone >= config.localSteps,
    resolve: false
  }
}

/** May a partner in `partnerPhase` be called now? A settling peer would only hold up one that still trains. */
export const suits = (phase: Phase, partnerPhase: Phase | undefined): boolean =>
  phase === 'training' ? partnerPhase !== 'done' : partnerPhase !== undefined && partnerPhase !== 'training'
