import type { Verdict } from '../../base/verdict.js'
import { ignore } from '../../base/verdict.js'
import type { ExchangeId, ExchangeMessage, RefusalCode, RefuseMessage } from '../../codec/wire/messages.js'
import type {
  ExchangeEffect,
  ExchangeOutcome,
  ExchangeState,
  ExchangeVerdictCode,
  LinkId,
  ActiveExchange,
  Standpoint,
  Step
} from './types.js'
import type { ExchangeRole } from './journal.js'
import type { PeerId } from '../peer-id.js'
import { doubtAbout } from './journal.js'
import type { Working } from './tasks.js'

/** What every handler needs to know about the event at hand. */
export interface Turn extends Standpoint {
  readonly link: LinkId
  readonly peer: PeerId
}

export const roleOf = (active: ActiveExchange): ExchangeRole =>
  active.stage === 'asked' || active.stage === 'accepted' ? 'responder' : 'initiator'

export const send = ({ link }: Turn, message: ExchangeMessage, payload?: Uint8Array): ExchangeEffect =>
  payload === undefined ? { type: 'send', link, message } : { type: 'send', link, message, payload }

export const penalise = ({ peer }: Turn, verdict: Verdict<ExchangeVerdictCode>): ExchangeEffect => ({
  type: 'penalise',
  peer,
  verdict
})

export const finished = (active: ActiveExchange, outcome: ExchangeOutcome): ExchangeEffect => ({
  type: 'finished',
  link: active.link,
  peer: active.peer,
  role: roleOf(active),
  outcome
})

/** Runs `next` on the state a step left, and lines the effects up. */
export function* andThen([state, effects]: Step, next: (state: ExchangeState) => Working<Step>): Working<Step> {
  const [after, more] = yield* next(state)
  return [after, [...effects, ...more]]
}

export const withEffects = ([state, effects]: Step, ...more: readonly ExchangeEffect[]): Step => [
  state,
  [...effects, ...more]
]

/** The active exchange, if this message belongs to it. */
export function activeOf(turn: Turn, state: ExchangeState, exchangeId: ExchangeId): ActiveExchange | undefined {
  const { active } = state
  return active?.link === turn.link && active.peer === turn.peer && active.exchangeId === exchangeId
    ? active
    : undefined
}

/** Ends the active exchange if it lives on `link`; after COMMIT that means doubt, whatever `outcome` says. */
export function endActive(state: ExchangeState, link: LinkId, outcome: ExchangeOutcome): Step {
  const active = state.active
  if (active?.link !== link) return [state, []]
  const inDoubt = active.stage === 'committing' && doubtAbout(state.journal, active.peer, active.exchangeId)
  return [{ ...state, active: undefined }, [finished(active, inDoubt ? { kind: 'in-doubt' } : outcome)]]
}

/** We say no, or no longer, to the exchange on this link. */
export function refuse(turn: Turn, state: ExchangeState, refusal: Omit<RefuseMessage, 'type'>): Step {
  const ended = endActive(state, turn.link, { kind: 'failed', code: `exchange/${refusal.code}` })
  return withEffects(ended, send(turn, { type: 'refuse', ...refusal }), { type: 'close', link: turn.link })
}

/** What a partner is told about its side. Of what is wrong with ours alone it hears nothing that it could look for at home. */
function toldOf(code: ExchangeVerdictCode | undefined): RefusalCode {
  if (code === 'codec/bad-checksum') return 'bad-checksum'
  if (code === 'codec/not-finite') return 'not-finite'
  return code === 'exchange/own-step-too-far' ? 'unspecified' : 'bad-payload'
}

/** A side that cannot be used, and what that says of its sender. */
export interface FaultySide {
  readonly exchangeId: ExchangeId
  readonly verdict: Verdict<ExchangeVerdictCode>
}

export function refuseSide(turn: Turn, state: ExchangeState, { exchangeId, verdict }: FaultySide): Step {
  const code = toldOf(verdict.verdict === 'accept' ? undefined : verdict.code)
  return withEffects(refuse(turn, state, { exchangeId, code }), penalise(turn, verdict))
}

/** A message that has no place here: dropped, and nothing changes. A repeated ACK or RESOLUTION ends here. */
export const unexpected = (turn: Turn, state: ExchangeState, message: ExchangeMessage): Step => [
  state,
  [penalise(turn, ignore('exchange/unexpected-message', message.type))]
]
