import type { Verdict } from '../../base/verdict.js'
import type { AckMessage, ExchangeFate, RefuseMessage, ResolutionMessage } from '../../codec/wire/messages.js'
import type {
  Parcel,
  ExchangeEffect,
  ExchangeEvent,
  ExchangeOutcome,
  ExchangeState,
  ExchangeVerdictCode,
  Standpoint,
  Step
} from './types.js'
import { greet, onAccept, onInitiate } from './initiator.js'
import type { InDoubt, Journal } from './journal.js'
import { noEdges } from './edges.js'
import { doubtAbout, emptyJournal, leaveDoubt } from './journal.js'
import { noDistances } from '../rules/radius.js'
import { accept, onCommit, onHello, onResolve } from './responder.js'
import type { Turn } from './turn.js'
import { andThen, endActive, finished, penalise, activeOf, unexpected, withEffects } from './turn.js'
import { withExchange } from './pair-memory.js'
import { runHere, type Working } from './tasks.js'

/**
 * The pairwise antisymmetric exchange as a pure state machine: the atomic pair average of AD-PSGD (Lian et al. 2018,
 * https://arxiv.org/abs/1710.06952) on vectors coded against a start both ends know.
 *
 *   initiator                                responder
 *   HELLO weight, codec, gamma      ->
 *                                   <-       ACCEPT weight + its coded parameters       (or REFUSE)
 *   COMMIT + its coded parameters   ->       applies, remembers the id
 *   applies                         <-       ACK
 *
 * Both sides decode the same pair of vectors, so the weighted mean of the two does not move, whatever the codec loses.
 * The responder decides: with a valid COMMIT in its hands the exchange has happened. An initiator that sent COMMIT and
 * heard nothing is in doubt: it keeps the increment in its journal and, before anything new is done with that peer in
 * either role, asks RESOLVE; the answer is `committed` (apply) or `undone` (drop). A responder asked about an exchange it
 * still waits for gives it up first, so that an answer never becomes untrue.
 */
export const initialExchangeState = (journal: Journal = emptyJournal): ExchangeState => ({
  active: undefined,
  journal,
  edges: noEdges,
  distances: noDistances,
  recent: new Map(),
  initiated: 0
})

/** Our parameters have moved by other means than steps and exchanges: what was measured from where they were is void. */
export const elsewhere = ({ outer: _outer, ...state }: ExchangeState): ExchangeState => ({
  ...state,
  distances: { ...noDistances, atStep: state.distances.atStep }
})

/** One step, its arithmetic here and now. Throws `codec/*` only where our own parameters cannot be sent. */
export const stepExchange = (here: Standpoint, state: ExchangeState, event: ExchangeEvent): Step =>
  runHere(here.config, exchangeStep(here, state, event))

/**
 * One step that stops at each of its tasks, for whoever does them elsewhere. `here` and `state` must stay what they are until
 * it ends, and no other step may begin before that.
 */
export function* exchangeStep(here: Standpoint, state: ExchangeState, event: ExchangeEvent): Working<Step> {
  const turn: Turn = { ...here, link: event.link, peer: event.peer }
  switch (event.type) {
    case 'initiate':
      return yield* onInitiate(turn, state)
    case 'message':
      return yield* onMessage(turn, state, event)
    case 'unreadable':
      return onUnreadable(turn, state, event.verdict)
    case 'broken':
      return endActive(state, event.link, { kind: 'failed', code: 'exchange/broken-link' })
  }
}

function* onMessage(turn: Turn, state: ExchangeState, { message, payload }: Parcel): Working<Step> {
  switch (message.type) {
    case 'hello':
      return yield* onHello(turn, state, message)
    case 'accept':
      return yield* onAccept(turn, state, { message, payload })
    case 'commit':
      return yield* onCommit(turn, state, { message, payload })
    case 'ack':
    case 'resolution':
      return yield* onDecision(turn, state, message)
    case 'refuse':
      return onRefuse(turn, state, message)
    case 'resolve':
      return onResolve(turn, state, message.exchangeId)
  }
}

/** The responder's word on an exchange we may be in doubt about: ACK, or the answer to RESOLVE. */
function* onDecision(turn: Turn, state: ExchangeState, message: AckMessage | ResolutionMessage): Working<Step> {
  const { exchangeId } = message
  const fate = message.type === 'ack' ? 'committed' : message.fate
  const record = doubtAbout(state.journal, turn.peer, exchangeId)
  if (record === undefined) return unexpected(turn, state, message)
  const undoubted: ExchangeState = { ...state, journal: leaveDoubt(state.journal, record) }
  const settled = fate === 'committed' ? withExchange(turn, undoubted, record) : undoubted
  const settling: ExchangeEffect =
    fate === 'committed' ? applied(record) : { type: 'undone', peer: turn.peer, exchangeId }
  return yield* andThen([settled, [settledEntry(record, fate), settling]], (after) =>
    goOn(turn, after, { exchangeId, fate })
  )
}

/** What the active exchange does once its doubt is settled. */
function* goOn(
  turn: Turn,
  state: ExchangeState,
  { exchangeId, fate }: Pick<ResolutionMessage, 'exchangeId' | 'fate'>
): Working<Step> {
  const { active } = state
  if (active === undefined || active.peer !== turn.peer || active.exchangeId !== exchangeId) return [state, []]
  const free: ExchangeState = { ...state, active: undefined }
  // An exchange that waits on another link than the answer came on goes on there.
  const there: Turn = { ...turn, link: active.link }
  if (active.stage === 'asking') return yield* greet(there, free)
  if (active.stage === 'asked') return yield* accept(there, free, active.hello)
  const outcome: ExchangeOutcome =
    fate === 'committed' ? { kind: 'committed' } : { kind: 'refused', code: 'unknown-exchange' }
  return [free, [finished(active, outcome), { type: 'close', link: active.link }]]
}

const settledEntry = ({ peer, exchangeId }: InDoubt, fate: ExchangeFate): ExchangeEffect => ({
  type: 'record',
  entry: { kind: 'settled', peer, exchangeId, fate }
})

const applied = (record: InDoubt): ExchangeEffect => ({
  type: 'apply',
  peer: record.peer,
  exchangeId: record.exchangeId,
  role: 'initiator',
  partnerPhase: record.partnerPhase,
  increment: record.increment,
  ...(record.observed === undefined ? {} : { observed: record.observed })
})

/** The partner says no. After our COMMIT that is its decision, so the exchange in doubt is undone. */
function onRefuse(turn: Turn, state: ExchangeState, refusal: RefuseMessage): Step {
  const { exchangeId, code } = refusal
  const active = activeOf(turn, state, exchangeId)
  if (active === undefined) return unexpected(turn, state, refusal)
  const record = active.stage === 'committing' ? doubtAbout(state.journal, turn.peer, exchangeId) : undefined
  const journal = record === undefined ? state.journal : leaveDoubt(state.journal, record)
  const undone: readonly ExchangeEffect[] =
    record === undefined ? [] : [settledEntry(record, 'undone'), { type: 'undone', peer: turn.peer, exchangeId }]
  return [
    { ...state, active: undefined, journal },
    [...undone, finished(active, { kind: 'refused', code }), { type: 'close', link: turn.link }]
  ]
}

function onUnreadable(turn: Turn, state: ExchangeState, verdict: Verdict<ExchangeVerdictCode>): Step {
  const code = verdict.verdict === 'accept' ? 'codec/malformed' : verdict.code
  return withEffects(endActive(state, turn.link, { kind: 'failed', code }), penalise(turn, verdict))
}
