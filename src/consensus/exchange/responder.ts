import { reject } from '../../base/verdict.js'
import type { AcceptMessage, CommitMessage, ExchangeId, HelloMessage } from '../../codec/wire/messages.js'
import { sameReference } from './edges.js'
import type { Parcel, ExchangeEffect, ExchangeState, ActiveExchange, Step } from './types.js'
import { doubtWith, fateOf, leaving, noteAccepted, noteCommitted, wasAccepted } from './journal.js'
import type { Turn } from './turn.js'
import {
  andThen,
  endActive,
  finished,
  penalise,
  refuse,
  refuseSide,
  roleOf,
  send,
  activeOf,
  unexpected,
  withEffects
} from './turn.js'
import { edgeNow, sceneOf, termsNow, withExchange } from './pair-memory.js'
import { fittingEdge, helloRefusal, slotsField } from './encoded-side.js'
import { ask, type Working } from './tasks.js'
import { termsOf } from './step-agreement.js'

export function* onHello(turn: Turn, state: ExchangeState, hello: HelloMessage): Working<Step> {
  if (state.active?.link === turn.link) return unexpected(turn, state, hello)
  const { exchangeId } = hello
  const code = helloRefusal(turn.config, hello)
  if (code !== undefined)
    return withEffects(refuse(turn, state, { exchangeId, code }), penalise(turn, reject(`exchange/${code}`)))
  if (wasAccepted(state.journal, turn.peer, exchangeId)) return onStrayHello(turn, state, hello)
  const freed = makeWay(turn, state)
  if (freed === undefined) return refuse(turn, state, { exchangeId, code: 'busy' })
  return yield* andThen(freed, (free) => acceptOrAsk(turn, free, hello))
}

/** What is in doubt with the caller is settled first. */
function* acceptOrAsk(turn: Turn, free: ExchangeState, hello: HelloMessage): Working<Step> {
  const doubt = doubtWith(free.journal, turn.peer)
  if (doubt === undefined) return yield* accept(turn, free, hello)
  const active: ActiveExchange = {
    stage: 'asked',
    link: turn.link,
    peer: turn.peer,
    exchangeId: doubt.exchangeId,
    hello
  }
  return [{ ...free, active }, [send(turn, { type: 'resolve', exchangeId: doubt.exchangeId })]]
}

/**
 * A HELLO that was delivered twice. A refusal would tell an initiator that waits for our ACK that its exchange had not
 * happened, so one that has is acknowledged again.
 */
function onStrayHello(turn: Turn, state: ExchangeState, { exchangeId }: HelloMessage): Step {
  if (fateOf(state.journal, turn.peer, exchangeId) === 'committed')
    return [state, [send(turn, { type: 'ack', exchangeId })]]
  return refuse(turn, state, { exchangeId, code: 'duplicate-exchange' })
}

/**
 * Ends what we are in for the sake of an incoming HELLO, or `undefined`: we are busy.
 * - Waiting for an answer to our own HELLO, we yield to a smaller peer id. Nothing is promised yet, and since ids are
 *   ordered, no ring of peers can wait for one another.
 * - A responder's partner that calls anew has lost its old link without having sent COMMIT, or it would ask first.
 */
function makeWay(turn: Turn, state: ExchangeState): Step | undefined {
  const { active } = state
  if (active === undefined) return [state, []]
  const close: ExchangeEffect = { type: 'close', link: active.link }
  if ((active.stage === 'asking' || active.stage === 'greeting') && turn.peer < turn.config.self)
    return withEffects(endActive(state, active.link, { kind: 'yielded' }), close)
  if (roleOf(active) === 'responder' && active.peer === turn.peer)
    return withEffects(endActive(state, active.link, { kind: 'failed', code: 'exchange/superseded' }), close)
  return undefined
}

export function* accept(turn: Turn, state: ExchangeState, hello: HelloMessage): Working<Step> {
  const { config, local, link, peer } = turn
  const { exchangeId, slots } = hello
  const known = config.codec.edge === undefined ? undefined : fittingEdge(config, state.edges.get(peer), slots)
  const edge = sameReference(known?.reference, hello.reference) ? known : undefined
  const own = yield* ask({ task: 'own-side', slots, edge, parameters: local.parameters, exchangeId })
  const terms = yield* termsNow(turn, state)
  const active: ActiveExchange = { stage: 'accepted', link, peer, exchangeId, hello, edge, terms, own }
  const journal = noteAccepted(state.journal, peer, exchangeId)
  const message: AcceptMessage = {
    type: 'accept',
    exchangeId,
    phase: local.phase,
    weight: config.weight,
    payload: { sizeBytes: own.payload.length, sha256: own.sha256 },
    ...slotsField(config),
    ...(edge === undefined ? {} : { reference: edge.reference }),
    ...termsOf(terms)
  }
  return [{ ...state, active, journal }, [send(turn, message, own.payload)]]
}

export function* onCommit(
  turn: Turn,
  state: ExchangeState,
  { message, payload }: Parcel<CommitMessage>
): Working<Step> {
  const { peer } = turn
  const { exchangeId } = message
  const active = activeOf(turn, state, exchangeId)
  if (active?.stage !== 'accepted') return onStrayCommit(turn, state, exchangeId)
  const { edge, own, hello } = active
  const { slots } = hello
  const partner = yield* ask({ task: 'partner-side', slots, edge, header: message.payload, payload })
  if (!partner.ok) return refuseSide(turn, state, { exchangeId, verdict: partner.verdict })
  const mixed = yield* ask({
    task: 'mix',
    slots,
    own: own.vector,
    partner: partner.value.vector,
    partnerWeight: hello.weight,
    terms: active.terms,
    partnerTerms: termsOf(hello),
    scene: sceneOf(turn, state),
    turns: edge?.reference.sequence ?? 0
  })
  if (!mixed.ok) return refuseSide(turn, state, { exchangeId, verdict: mixed.verdict })
  const { increment, observed, leaves } = mixed.value
  const made = { peer, exchangeId, partnerPhase: hello.phase, increment }
  const after = yield* edgeNow(turn, edge, {
    slots,
    exchangeId,
    initiatorSha256: partner.value.sha256,
    responderSha256: own.sha256,
    own: own.vector,
    partner: partner.value.vector
  })
  const decided = { ...state, active: undefined, journal: noteCommitted(state.journal, peer, exchangeId) }
  return [
    withExchange(turn, decided, { peer, observed, ...leaving(leaves, after) }),
    [
      { type: 'record', entry: { kind: 'committed', ...made } },
      { type: 'apply', role: 'responder', ...made, observed },
      send(turn, { type: 'ack', exchangeId }),
      finished(active, { kind: 'committed' })
    ]
  ]
}

/** A COMMIT we do not wait for on this link: a repetition, or one we have given up. The answer is the one we stand by. */
function onStrayCommit(turn: Turn, state: ExchangeState, exchangeId: ExchangeId): Step {
  const [decided, effects] = decide(turn, state, exchangeId)
  if (fateOf(decided.journal, turn.peer, exchangeId) === 'committed')
    return [decided, [...effects, send(turn, { type: 'ack', exchangeId })]]
  return withEffects(refuse(turn, decided, { exchangeId, code: 'unknown-exchange' }), ...effects)
}

/** Makes the fate of an exchange final before we name it: one we still wait for is given up. */
function decide(turn: Turn, state: ExchangeState, exchangeId: ExchangeId): Step {
  const { active } = state
  if (active?.stage !== 'accepted' || active.peer !== turn.peer || active.exchangeId !== exchangeId) return [state, []]
  const ended = endActive(state, active.link, { kind: 'failed', code: 'exchange/superseded' })
  return active.link === turn.link ? ended : withEffects(ended, { type: 'close', link: active.link })
}

export function onResolve(turn: Turn, state: ExchangeState, exchangeId: ExchangeId): Step {
  const decided = decide(turn, state, exchangeId)
  const fate = fateOf(decided[0].journal, turn.peer, exchangeId)
  return withEffects(decided, send(turn, { type: 'resolution', exchangeId, fate }))
}
