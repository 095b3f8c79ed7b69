import type { Rng } from '../../base/rng.js'
import type { ExchangeOutcome } from '../exchange/types.js'
import type { PeerId } from '../peer-id.js'

/**
 * Peers one node mixes with for a while. Fresh random partners mix almost independently of the network's size (Epidemic
 * Learning, De Vos et al. 2023, https://arxiv.org/abs/2310.01972); a view of eight keeps connections warm meanwhile.
 */
export const VIEW_SIZE = 8

/** Exchanges after which one entry of the view is replaced by somebody new. */
export const REFRESH_EXCHANGES = 10

/** Milliseconds a peer is left alone after its first failure; doubled with each further one in a row. */
export const BACKOFF_MS = 1_000

/** The longest back-off: a peer that comes back is found within a minute. */
export const MAX_BACKOFF_MS = 60_000

/** A busy peer is a healthy peer: milliseconds before it is asked again, drawn up to twice this to break step. */
export const BUSY_BACKOFF_MS = 40

/** Peers whose back-off is remembered; more than the connections a node keeps. The soonest forgiven goes first. */
export const MAX_BACKOFFS = 512

interface Backoff {
  readonly untilMs: number
  /** Failures in a row. */
  readonly failures: number
}

export interface PartnerState {
  readonly view: readonly PeerId[]
  /** Exchanges since an entry of the view was replaced. */
  readonly sinceRefresh: number
  readonly backoffs: ReadonlyMap<PeerId, Backoff>
  /** Neighbours in the order of the last exchange with them, in either role; empty without an overlay. */
  readonly turns: readonly PeerId[]
}

export const initialPartnerState: PartnerState = { view: [], sinceRefresh: 0, backoffs: new Map(), turns: [] }

/** How an attempt to mix ended, as far as choosing the next partner goes. */
export type AttemptResult = 'committed' | 'busy' | 'failed'

export interface Attempt {
  readonly peer: PeerId
  readonly result: AttemptResult
}

/** Busy and yielding are how a crowded network works, not faults of the partner. */
export function attemptResult(outcome: ExchangeOutcome): AttemptResult {
  if (outcome.kind === 'committed') return 'committed'
  if (outcome.kind === 'yielded') return 'busy'
  if (outcome.kind === 'refused') return outcome.code === 'busy' || outcome.code === 'rate-limited' ? 'busy' : 'failed'
  return 'failed'
}

const pick = <T>(items: readonly T[], rng: Rng): T | undefined =>
  items.length === 0 ? undefined : items[rng.integer(items.length)]

/** Drops who is gone, replaces one entry when it is time, fills up at random. */
function refreshView(state: PartnerState, candidates: readonly PeerId[], rng: Rng): PartnerState {
  const present = new Set(candidates)
  const kept = state.view.filter((peer) => present.has(peer))
  const strangers = rng.shuffle(candidates.filter((peer) => !kept.includes(peer)))
  const due = state.sinceRefresh >= REFRESH_EXCHANGES
  if (due && kept.length === VIEW_SIZE && strangers.length > 0) kept.splice(rng.integer(kept.length), 1)
  const view = [...kept, ...strangers.slice(0, VIEW_SIZE - kept.length)]
  return { ...state, view, sinceRefresh: due ? 0 : state.sinceRefresh }
}

export interface PartnerQuestion {
  /** Peers we could open a channel to now, and that are in a phase to mix with us. */
  readonly candidates: readonly PeerId[]
  /** Our neighbours on the federation's overlay; absent where partners are drawn at random. */
  readonly neighbours?: readonly PeerId[]
  /**
   * Peers we are in doubt with and could open a channel to, whatever their phase: settled first, since what they could
   * tell us only gets older.
   */
  readonly inDoubt: readonly PeerId[]
  readonly nowMs: number
  readonly rng: Rng
}

/** When something happened to us, and what chance is drawn from. */
type Moment = Pick<PartnerQuestion, 'nowMs' | 'rng'>

/**
 * On an overlay every edge has its turn: the neighbour met longest ago, so that nobody is asked more than others. Whoever is
 * not to be had is passed over; where no neighbour is, any candidate will do, since a peer alone drifts away.
 */
function chooseNeighbour(
  state: PartnerState,
  neighbours: readonly PeerId[],
  { rested, rng }: { readonly rested: (peer: PeerId) => boolean; readonly rng: Rng }
): readonly [PartnerState, PeerId | undefined] {
  const turns = state.turns.filter((peer) => neighbours.includes(peer))
  const unmet = neighbours.filter((peer) => !turns.includes(peer) && rested(peer))
  return [{ ...state, turns }, pick(unmet, rng) ?? turns.find(rested)]
}

/** The next partner, or `undefined` when everybody is gone or in back-off. Pure apart from the injected `rng`. */
export function choosePartner(
  state: PartnerState,
  { candidates, neighbours, inDoubt, nowMs, rng }: PartnerQuestion
): readonly [PartnerState, PeerId | undefined] {
  const isRested = (peer: PeerId): boolean => (state.backoffs.get(peer)?.untilMs ?? Number.NEGATIVE_INFINITY) <= nowMs
  const near = neighbours?.filter((peer) => candidates.includes(peer)) ?? []
  if (near.length > 0) {
    const [after, neighbour] = chooseNeighbour(state, near, { rested: isRested, rng })
    return [after, pick(inDoubt.filter(isRested), rng) ?? neighbour]
  }
  const after = refreshView(state, candidates, rng)
  return [after, pick(inDoubt.filter(isRested), rng) ?? pick(after.view.filter(isRested), rng)]
}

function backoffAfter(previous: Backoff | undefined, result: 'busy' | 'failed', { nowMs, rng }: Moment): Backoff {
  if (result === 'busy')
    return { untilMs: nowMs + BUSY_BACKOFF_MS * (1 + rng.uniform()), failures: previous?.failures ?? 0 }
  const failures = (previous?.failures ?? 0) + 1
  return { untilMs: nowMs + Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1)), failures }
}

/** Neighbours whose turns are remembered, as many as an overlay gives. */
const MAX_TURNS = 256

const afterTurn = (state: PartnerState, peer: PeerId): PartnerState => ({
  ...state,
  turns: [...state.turns.filter((other) => other !== peer), peer].slice(-MAX_TURNS)
})

/** Learns from an attempt we made. An exchange a peer made with us counts as `committed`, too. */
export function noteAttempt(state: PartnerState, { peer, result }: Attempt, moment: Moment): PartnerState {
  const backoffs = new Map(state.backoffs)
  const previous = backoffs.get(peer)
  backoffs.delete(peer)
  if (result === 'committed') return { ...afterTurn(state, peer), backoffs, sinceRefresh: state.sinceRefresh + 1 }
  backoffs.set(peer, backoffAfter(previous, result, moment))
  if (backoffs.size > MAX_BACKOFFS) {
    const [soonest] = [...backoffs].reduce((a, b) => (b[1].untilMs < a[1].untilMs ? b : a))
    backoffs.delete(soonest)
  }
  return { ...state, backoffs }
}
