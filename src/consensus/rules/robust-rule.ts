import type { RobustSpec } from '../../base/mixing-rules.js'
import { keepLatest } from '../keep-latest.js'
import type { Apart, DistanceMeasure } from './distance.js'
import { euclidean } from './distance.js'
import { ubarSelection } from './mixing-acceptance.js'
import { meanOf, nnmTrimmedMean, trimmedMean } from './mixing-neighbourhood.js'
import type { PeerId } from '../peer-id.js'

/** States of partners kept beside our own, at most: nine vectors make a neighbourhood in which three may lie. */
export const MAX_RECENT_STATES = 8
/** Bytes of them together, 256 MiB: eight at 8 million parameters, one at 64 million. At least one is kept. */
const MAX_RECENT_BYTES = 256 * 1024 * 1024
/** Multiples of `localSteps` after which a state is too old to stand for its peer. */
const RECENT_ROUNDS = 20

/** A partner's state as both ends took it at the last exchange. */
export interface RecentState {
  /** float32[n]. */
  readonly vector: Float32Array
  /** Our local step then. */
  readonly atStep: number
  /** Nats on a batch of ours; absent until it was measured. */
  readonly loss?: number
}

/** A state whose loss on a batch of ours is known. */
type Measured = RecentState & { readonly loss: number }

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
export function noteState(
  config: RobustConfig,
  recent: RecentStates,
  [peer, state]: readonly [PeerId, RecentState]
): RecentStates {
  const most = Math.max(
    1,
    Math.min(windowOf(config), MAX_RECENT_STATES, Math.floor(MAX_RECENT_BYTES / (4 * state.vector.length)))
  )
  return keepLatest(recent, [peer, state], most)
}

/** What a state loses on our data, once that is known; nothing where it has gone meanwhile. */
export function noteLoss(
  recent: RecentStates,
  peer: PeerId,
  { vector, loss }: Pick<Measured, 'vector' | 'loss'>
): RecentStates {
  const state = recent.get(peer)
  return state?.vector === vector ? new Map(recent).set(peer, { ...state, loss }) : recent
}

/** Nats on one batch of ours, the same that states are measured on. */
export interface KnownLosses {
  /** Of our own parameters after the last exchange. */
  readonly own: number
  /** Of the common start. */
  readonly start: number
}

/** True for a state that is of no use to us: it loses more than no training at all, and more than we do. */
export const isWorseThanStart = ({ own, start }: KnownLosses, loss: number): boolean => !(loss <= Math.max(own, start))

/** One exchange as a robust rule sees it. */
export interface Neighbourhood {
  readonly peer: PeerId
  readonly own: Float32Array
  readonly partner: Float32Array
  readonly apart: Apart
  readonly recent: RecentStates
  readonly step: number
  /** Where the rule asks for losses. */
  readonly losses?: KnownLosses
}

const isOld = ({ localSteps = 1 }: RobustConfig, { step }: Neighbourhood, { atStep }: RecentState): boolean =>
  atStep < step - RECENT_ROUNDS * localSteps

const others = (config: RobustConfig, scene: Neighbourhood): readonly RecentState[] =>
  [...scene.recent].flatMap(([other, state]) => (other === scene.peer || isOld(config, scene, state) ? [] : [state]))

/**
 * Where the rule would have us, float32[n]; undefined where it has nothing to say yet and the pair rule stands in. With fewer
 * than three vectors there is no majority to go by.
 */
export function robustTarget(config: RobustConfig, scene: Neighbourhood): Float32Array | undefined {
  const { robust, measure = euclidean } = config
  if (robust === undefined || robust.rule === 'balance') return undefined
  if (robust.rule === 'ubar') return ubarTarget(measured(config, scene), scene, { share: robust.share, measure })
  const states = others(config, scene)
  const vectors = [scene.own, scene.partner, ...states.map(({ vector }) => vector)]
  const liars = Math.min(robust.liars, Math.floor((vectors.length - 1) / 2))
  return robust.rule === 'nnm' ? nnmTrimmedMean(vectors, liars, measure) : trimmedMean(vectors, liars, measure)
}

/** The share of the way that UBAR goes towards those it accepts: alpha = 1/2 in its update. */
const UBAR_STEP = 0.5

/** How UBAR tells near from far, and the share of the states that it takes to be near. */
interface UbarSelection {
  readonly share: number
  readonly measure: DistanceMeasure
}

/** The partner's own among them, of its last exchange: that of this one is measured after it, which waits for no forward pass. */
function measured(config: RobustConfig, scene: Neighbourhood): readonly Measured[] {
  const last = scene.recent.get(scene.peer)
  const known = last === undefined || isOld(config, scene, last) ? [] : [last]
  return [...others(config, scene), ...known].filter((state): state is Measured => state.loss !== undefined)
}

/**
 * Half of the way to the mean of those that pass, or where we are: nobody moves us before it was measured. Where all lose more
 * than we do, the paper takes one nevertheless; here only if it is worth more than the common start, since among so few
 * there may be nobody but liars.
 */
function ubarTarget(
  states: readonly Measured[],
  { own, losses }: Neighbourhood,
  { share, measure }: UbarSelection
): Float32Array {
  if (losses === undefined) return own
  const candidates = states.map(({ vector, loss }) => ({ distance: measure(own, vector).distance, loss }))
  const chosen = ubarSelection({ distanceFromStart: 0, progress: 0, loss: losses.own }, candidates, share)
  const useful = chosen.filter((index) => !isWorseThanStart(losses, states[index]!.loss))
  if (useful.length === 0) return own
  const mean = meanOf(useful.map((index) => states[index]!.vector))
  return own.map((value, i) => value + UBAR_STEP * (mean[i]! - value))
}
