import type { Clock } from '../../base/clock.js'
import type { Verdict } from '../../base/verdict.js'
import { reject } from '../../base/verdict.js'
import { MAX_MESSAGE_BYTES } from '../../codec/wire/wire.js'
import type { ExchangeVerdictCode } from '../../consensus/exchange/types.js'
import type { PeerId } from '../../gossip/transport.js'
import { rateLimit } from './rate-limit.js'

/** Each HELLO costs us the coding of our parameters: 20 at once, then 4 a second, cover a settling network. */
const HELLO_BURST = 20
const HELLOS_PER_SECOND = 4

/** RESOLVE or RESOLUTION, HELLO and COMMIT, or ACCEPT and ACK, and one to spare: what an honest peer says for an exchange. */
export const MESSAGES_PER_EXCHANGE = 4

/** Peers whose budgets are remembered. */
const MAX_BUDGETED_PEERS = 1024

export interface PeerBudgetInit {
  /** Exchanges one peer may ask for at once, and per second after that. */
  readonly helloBurst?: number
  readonly hellosPerSecond?: number
  /** The most bytes of one payload. */
  readonly payloadBytes: number
}

/**
 * What one peer may cost us: exchanges, messages and bytes, each in a bucket that refills. The last two follow from the
 * first: so many messages and one payload for each exchange it may make.
 */
export interface PeerBudget {
  /** One more HELLO; `false`: not now. An honest peer in a crowded network may hear this, so it is not held against it. */
  hello(peer: PeerId): boolean
  /** One more message; a verdict: beyond what any exchange asks for. */
  message(peer: PeerId): Verdict<ExchangeVerdictCode> | undefined
  /** So many more bytes from this peer. */
  bytes(peer: PeerId, count: number): Verdict<ExchangeVerdictCode> | undefined
}

export function createPeerBudget(
  clock: Clock,
  { helloBurst = HELLO_BURST, hellosPerSecond = HELLOS_PER_SECOND, payloadBytes }: PeerBudgetInit
): PeerBudget {
  const bucket = (perExchange: number) =>
    rateLimit(clock, {
      burst: helloBurst * perExchange,
      perSecond: hellosPerSecond * perExchange,
      maxKeys: MAX_BUDGETED_PEERS
    })
  const bytesPerExchange = payloadBytes + MESSAGES_PER_EXCHANGE * MAX_MESSAGE_BYTES
  const hellos = bucket(1)
  const messages = bucket(MESSAGES_PER_EXCHANGE)
  const bytes = bucket(bytesPerExchange)
  const perMinute = (perExchange: number): number => 60 * hellosPerSecond * perExchange
  return {
    hello: (peer) => hellos(peer),
    message: (peer) =>
      messages(peer)
        ? undefined
        : reject('exchange/over-message-budget', `more than ${perMinute(MESSAGES_PER_EXCHANGE)} messages a minute`),
    bytes: (peer, count) =>
      bytes(peer, count)
        ? undefined
        : reject('exchange/over-byte-budget', `more than ${perMinute(bytesPerExchange)} bytes a minute`)
  }
}
