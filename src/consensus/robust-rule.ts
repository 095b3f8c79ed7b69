import type { RobustSpec } from '../base/mixing-rules.js'
import type { Apart, DistanceMeasure } from './distance.js'
import { euclidean } from './distance.js'
import { ubarSelection } from './mixing-acceptance.js'
import { meanOf, nnmTrimmedMean, trimmedMean } from './mixing-neighbourhood.js'
import type { PeerId } from './peer-id.js'

/** States of partners kept beside our own, at most: nine vectors make a neighbourhood in which three may lie. */
export const MAX_RECENT_STATES = 8
/** Bytes of them together, 256 MiB: eight at 8 million parameters, one at 64 million. At least one is kept. */
export const MAX_RECENT_BYTES = 256 * 1024 * 1024
/** Multiples of `localSteps` after which a state is too old to stand for its peer. */
export const RECENT_ROUNDS = 20

/** A partner's state as both ends took it at the last exchange. */
export interface RecentState {
  /** float32[n]. */
  readonly vector: Float32Array
  /** Our local step then. */
  readonly atStep: number
  /** Nats on a batch of ours; absent until it was measured. */
  readonly loss?: number
}

/** The latest last. */
export type RecentStates = ReadonlyMap<PeerId, RecentState>

/** The part of an exchange's configuration that these rules are about. */
export interface RobustConfig {
  readonly robust?: RobustSpec
  readonly localSteps?: number
  readonly measure?: DistanceMeasure
}

const windowOf = ({ robust }: RobustConfig): number => (robust !== undefined && 'window' in robust ? robust.window : 0)

/** True where the rule needs partners' states from earlier exchanges. */
export const keepsStates = (config: RobustConfig): boolean => windowOf(config) > 0

/** Adds the state an exchange has shown; the oldest goes where they are too many or too large together. */
export function noteState(config: RobustConfig, recent: RecentStates, peer: PeerId, state: RecentState): RecentStates {
  const most = Math.max(
    1,
    Math.min(windowOf(config), MAX_RECENT_STATES, Math.floor(MAX_RECENT_BYTES / (4 * state.vector.length)))
  )
  const next = new Map(recent)
  next.delete(peer)
  next.set(peer, state)
  for (const oldest of next.keys()) {
    if (next.size <= most) break
    next.delete(oldest)
  }
  return next
}

/** What a state loses on our data, once that is known; nothing where it has gone meanwhile. */
export function noteLoss(recent: RecentStates, peer: PeerId, vector: Float32Array, loss: number): RecentStates {
  const state = recent.get(peer)
  return state?.vector === vector ? new Map(recent).set(peer, { ...state, loss }) : recent
}

/** One exchange as a robust rule sees it. */
export interface Neighbourhood {
  readonly peer: PeerId
  readonly own: Float32Array
  readonly partner: Float32Array
  readonly apart: Apart
  readonly recent: RecentStates
  readonly step: number
  /** Of `own` on a batch of ours, where the rule asks for losses. */
  readonly ownLoss?: number
}

function others({ localSteps = 1 }: RobustConfig, { peer, recent, step }: Neighbourhood): readonly RecentState[] {
  const oldest = step - RECENT_ROUNDS * localSteps
  return [...recent].flatMap(([other, state]) => (other === peer || state.atStep < oldest ? [] : [state]))
}

/**
 * Where the rule would have us, float32[n]; undefined where it has nothing to say yet and the pair rule stands in. With fewer
 * than three vectors there is no majority to go by.
 */
export function robustTarget(config: RobustConfig, scene: Neighbourhood): Float32Array | undefined {
  const { robust, measure = euclidean } = config
  if (robust === undefined || robust.rule === 'balance') return undefined
  const states = others(config, scene)
  if (robust.rule === 'ubar') return ubarTarget(robust.share, scene, states, measure)
  const vectors = [scene.own, scene.partner, ...states.map(({ vector }) => vector)]
  const liars = Math.min(robust.liars, Math.floor((vectors.length - 1) / 2))
  return robust.rule === 'nnm' ? nnmTrimmedMean(vectors, liars, measure) : trimmedMean(vectors, liars, measure)
}

/** The share of the way that UBAR goes towards those it accepts: alpha = 1/2 in its update. */
const UBAR_STEP = 0.5

/**
 * Of the states whose loss is known; that of the partner at hand is measured after the exchange and counts at the next, since
 * an exchange does not wait for a forward pass.
 */
function ubarTarget(
  share: number,
  { own, ownLoss }: Neighbourhood,
  states: readonly RecentState[],
  measure: DistanceMeasure
): Float32Array | undefined {
  const measured = states.filter(({ loss }) => loss !== undefined)
  if (measured.length === 0 || ownLoss === undefined) return undefined
  const candidates = measured.map(({ vector, loss }) => ({
    distance: measure(own, vector).distance,
    loss: loss as number
  }))
  const chosen = ubarSelection({ travelled: 0, progress: 0, loss: ownLoss }, candidates, share)
  const mean = meanOf(chosen.map((index) => measured[index]!.vector))
  return own.map((value, i) => value + UBAR_STEP * (mean[i]! - value))
}
