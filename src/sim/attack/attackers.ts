import { type Rng, seededRng } from '../../base/rng.js'
import type { ExchangeMessage } from '../../codec/wire/messages.js'
import { payloadHeader } from '../../codec/wire/payload.js'
import { encodeExchangeMessage } from '../../codec/wire/wire.js'
import { type Attack as AttackFormula, equivocation, signFlip } from './attacks.js'
import { MAX_WEIGHT } from '../../consensus/weight.js'
import { type Insight, omniscientAttack } from './omniscient-attacks.js'
import type { Frame, PeerIndex } from '../world/network.js'
import type { Attack, Scenario } from '../world/scenario.js'

/**
 * How a dishonest peer differs from an honest one: the machine is the same, what it is told and what leaves it are not.
 * Within one exchange both sides hold the same pair of vectors, so a peer can lie about what it has, differently to
 * everybody, and fail to do its half; more it cannot do without being refused.
 */
export interface Tamper {
  /** What it claims to have, towards one partner. A new vector. */
  claims(parameters: Float32Array, partner: PeerIndex): Float32Array
  /** What it sends instead of a message. */
  frames(message: ExchangeMessage, payload: Uint8Array | undefined): readonly Frame[]
  /** False: it never adds what it agreed to add. */
  readonly applies: boolean
  /** True: after every exchange it goes by another name. */
  readonly renames: boolean
  /** Training examples it says it has; absent: what it has. */
  readonly weight?: number
}

export interface LiarParts {
  readonly attack: Attack
  readonly scenario: Scenario
  readonly peer: PeerIndex
  readonly insight: Insight
}

/** Times its distance from the start that an attacker with large values claims. */
const LARGE = 1e4
/** Bytes of a garbage frame at most. */
const MAX_GARBAGE_BYTES = 200

export const frameOf = (message: ExchangeMessage, payload: Uint8Array | undefined): Frame =>
  payload === undefined ? { bytes: encodeExchangeMessage(message) } : { bytes: encodeExchangeMessage(message), payload }

const HONEST: Tamper = {
  claims: (parameters) => parameters.slice(),
  frames: (message, payload) => [frameOf(message, payload)],
  applies: true,
  renames: false
}

/** An exchange message that carries a vector, with another payload and a header that fits it. */
function withPayload(message: ExchangeMessage, payload: Uint8Array): Frame {
  const carries = message.type === 'accept' || message.type === 'commit'
  return carries ? frameOf({ ...message, payload: payloadHeader(payload) }, payload) : frameOf(message, undefined)
}

/** NaN to every codec: float32's own pattern, and 0x7e7e, which is a binary16 NaN, for those with scales. */
function nanPayload(payload: Uint8Array, codec: string): Uint8Array {
  const pattern = codec === 'float32' ? [0, 0, 0xc0, 0x7f] : [0x7e]
  return payload.map((_, i) => pattern[i % pattern.length]!)
}

export function garbage(rng: Rng): Uint8Array {
  return Uint8Array.from({ length: 1 + rng.integer(MAX_GARBAGE_BYTES) }, () => rng.integer(256))
}

export function createTamper({ attack, scenario, peer, insight }: LiarParts): Tamper {
  const rng = seededRng(scenario.seed, 'attacker', peer)
  // The formulas are those of sim/attack/attacks.ts.
  const claiming =
    (lie: AttackFormula, by: Rng = rng): Tamper['claims'] =>
    (own, partner) => {
      const [start, liars] = [insight.reference, insight.liars]
      return lie({ own, start, victim: insight.parametersOf(partner), honest: insight.honest(), liars, rng: by })
    }
  switch (attack) {
    case 'sign-flip':
      return { ...HONEST, claims: claiming(signFlip()) }
    case 'large-values':
      return { ...HONEST, claims: claiming(signFlip(-LARGE)) }
    case 'nan-payload':
      return {
        ...HONEST,
        frames: (message, payload) => [
          payload === undefined
            ? frameOf(message, undefined)
            : withPayload(message, nanPayload(payload, scenario.mixing.codec))
        ]
      }
    case 'garbage-frames':
      return { ...HONEST, frames: () => [{ bytes: garbage(rng) }] }
    case 'silence':
      return { ...HONEST, frames: (message) => (message.type === 'hello' ? [frameOf(message, undefined)] : []) }
    case 'stale-replay':
      return staleReplay()
    case 'equivocation':
      return {
        ...HONEST,
        claims: (parameters, partner) =>
          claiming(equivocation(), seededRng(scenario.seed, 'equivocation', peer, partner))(parameters, partner)
      }
    case 'free-ride':
      return { ...HONEST, applies: false }
    case 'label-flip':
      // Honest about what wrong labels have taught it.
      return HONEST
    case 'gaussian':
      return { ...HONEST, claims: claiming(omniscientAttack(attack, insight)) }
    case 'ipm':
    case 'alie':
    case 'dissensus':
    case 'mimic':
    case 'gradient-assembly':
      // What it claims comes from others: it has no use for what it agreed to add.
      return { ...HONEST, claims: claiming(omniscientAttack(attack, insight)), applies: false }
    case 'sybil':
      return { ...HONEST, claims: claiming(signFlip()), applies: false, renames: true }
    case 'heavy':
      return { ...HONEST, claims: claiming(signFlip()), weight: MAX_WEIGHT }
  }
}

/** Says for ever what it said first, and everything twice. */
function staleReplay(): Tamper {
  let first: Uint8Array | undefined
  return {
    ...HONEST,
    frames: (message, payload) => {
      first ??= payload
      const frame = payload === undefined ? frameOf(message, undefined) : withPayload(message, first!)
      return [frame, frame]
    }
  }
}

/** Which peers attack, and how: the last ones, so that honest peers keep their numbers whoever attacks. */
export function attackOf({ peers, attackers }: Scenario, peer: PeerIndex): Attack | undefined {
  let at = peers
  for (const { attack, count } of attackers) {
    at -= count
    if (peer >= at) return attack
  }
  return undefined
}
