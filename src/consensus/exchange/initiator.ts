import { reject } from '../../base/verdict.js'
import type { AcceptMessage, CommitMessage, HelloMessage } from '../../codec/wire/messages.js'
import { sameReference } from './edges.js'
import type { Parcel, ExchangeEffect, ExchangeState, ActiveExchange, Step } from './types.js'
import type { InDoubt } from './journal.js'
import { doubtWith, enterDoubt, leaving } from './journal.js'
import type { Turn } from './turn.js'
import { penalise, refuse, refuseSide, send, activeOf, unexpected, withEffects } from './turn.js'
import { edgeNow, sceneOf, termsNow } from './pair-memory.js'
import { fittingEdge, nextExchangeId, slotsField } from './encoded-side.js'
import { isSaneWeight } from '../weight.js'
import { ask, type Working } from './tasks.js'
import { termsOf } from './step-agreement.js'

export function* onInitiate(turn: Turn, state: ExchangeState): Working<Step> {
  // A partner called while the channel was being opened: its exchange goes first.
  if (state.active !== undefined) {
    const { link, peer } = turn
    const finished: ExchangeEffect = { type: 'finished', link, peer, role: 'initiator', outcome: { kind: 'yielded' } }
    return [state, [finished, { type: 'close', link }]]
  }
  const doubt = doubtWith(state.journal, turn.peer)
  if (doubt === undefined) return yield* greet(turn, state)
  const { exchangeId } = doubt
  const active: ActiveExchange = { stage: 'asking', link: turn.link, peer: turn.peer, exchangeId }
  return [{ ...state, active }, [send(turn, { type: 'resolve', exchangeId })]]
}

export function* greet(turn: Turn, state: ExchangeState): Working<Step> {
  const { config, local, link, peer } = turn
  const exchangeId = nextExchangeId(config, peer, state.initiated)
  const edge = config.codec.edge === undefined ? undefined : state.edges.get(peer)
  const terms = yield* termsNow(turn, state)
  const hello: HelloMessage = {
    type: 'hello',
    exchangeId,
    federation: config.federation,
    schema: config.schema.hash,
    phase: local.phase,
    weight: config.weight,
    codec: config.codec.name,
    gamma: config.gamma,
    ...slotsField(config),
    ...(edge === undefined ? {} : { reference: edge.reference }),
    ...termsOf(terms)
  }
  const active: ActiveExchange = { stage: 'greeting', link, peer, exchangeId, edge, terms }
  return [{ ...state, active, initiated: state.initiated + 1 }, [send(turn, hello)]]
}

export function* onAccept(
  turn: Turn,
  state: ExchangeState,
  { message, payload }: Parcel<AcceptMessage>
): Working<Step> {
  const { config, local, link, peer } = turn
  const { exchangeId } = message
  const greeting = activeOf(turn, state, exchangeId)
  if (greeting?.stage !== 'greeting') return unexpected(turn, state, message)
  if (!isSaneWeight(message.weight))
    return withEffects(
      refuse(turn, state, { exchangeId, code: 'absurd-weight' }),
      penalise(turn, reject('exchange/absurd-weight', String(message.weight)))
    )
  const { slots } = message
  if (config.layouts !== undefined && config.layouts.pairWith(slots ?? 0) === undefined)
    return refuseSide(turn, state, { exchangeId, verdict: reject('codec/malformed', `${slots} slots`) })
  const edge = message.reference === undefined ? undefined : fittingEdge(config, greeting.edge, slots)
  if (!sameReference(message.reference, edge?.reference))
    return refuseSide(turn, state, {
      exchangeId,
      verdict: reject('codec/malformed', 'an edge that we have not offered')
    })
  const partner = yield* ask({ task: 'partner-side', slots, edge, header: message.payload, payload })
  if (!partner.ok) return refuseSide(turn, state, { exchangeId, verdict: partner.verdict })
  const own = yield* ask({ task: 'own-side', slots, edge, parameters: local.parameters, exchangeId })
  const mixed = yield* ask({
    task: 'mix',
    slots,
    own: own.vector,
    partner: partner.value.vector,
    partnerWeight: message.weight,
    terms: greeting.terms,
    partnerTerms: termsOf(message),
    scene: sceneOf(turn, state),
    turns: edge?.reference.sequence ?? 0
  })
  if (!mixed.ok) return refuseSide(turn, state, { exchangeId, verdict: mixed.verdict })
  const { increment, observed, leaves } = mixed.value
  const kept = { exchangeId, peer, partnerPhase: message.phase, increment, observed }
  const after = yield* edgeNow(turn, edge, {
    slots,
    exchangeId,
    initiatorSha256: own.sha256,
    responderSha256: partner.value.sha256,
    own: own.vector,
    partner: partner.value.vector
  })
  const record: InDoubt = { ...kept, ...leaving(leaves, after) }
  const [journal, surplus] = enterDoubt(state.journal, record)
  const forgotten = surplus.map((one): ExchangeEffect => {
    return { type: 'forgotten', peer: one.peer, exchangeId: one.exchangeId }
  })
  const commit: CommitMessage = {
    type: 'commit',
    exchangeId,
    payload: { sizeBytes: own.payload.length, sha256: own.sha256 }
  }
  const active: ActiveExchange = { stage: 'committing', link, peer, exchangeId }
  const recorded: ExchangeEffect = { type: 'record', entry: { kind: 'in-doubt', ...kept } }
  return [{ ...state, active, journal }, [...forgotten, recorded, send(turn, commit, own.payload)]]
}
