import { sha256Hex } from '../base/bytes.js'
import { PeertuneError } from '../base/errors.js'
import { seededRng } from '../base/rng.js'
import type { Decoded } from '../base/verdict.js'
import { decoded, refused, reject } from '../base/verdict.js'
import type { ExchangeId, HelloMessage, PayloadHeader, RefusalCode } from '../codec/messages.js'
import { add, allFinite, subtract } from '../tensor/linear.js'
import type { ExchangeConfig } from './exchange-types.js'
import type { PeerId } from './journal.js'
import { pairwiseMean } from './mixing.js'

/** Training examples a peer may claim: a weight of a thousand million would replace anybody else's parameters. */
export const MAX_WEIGHT = 1_000_000_000

export const isSaneWeight = (weight: number): boolean => Number.isInteger(weight) && weight >= 1 && weight <= MAX_WEIGHT

/** One side of an exchange: its bytes, and the vector both ends will take them for. */
export interface Side {
  readonly payload: Uint8Array
  /** float32[schema.size]. */
  readonly vector: Float32Array
}

type SideCode = 'codec/bad-checksum' | 'codec/not-finite' | 'codec/malformed'

/** x0 + decoded difference. The same float32 additions on both ends, hence the same bits. */
function sideVector(config: ExchangeConfig, payload: Uint8Array): Decoded<Float32Array, SideCode> {
  const difference = config.codec.decode(payload, config.schema.size)
  if (!difference.ok) {
    const { verdict } = difference
    const detail = verdict.verdict === 'accept' ? undefined : verdict.detail
    const notFinite = verdict.verdict !== 'accept' && verdict.code === 'codec/not-finite'
    return refused(reject(notFinite ? 'codec/not-finite' : 'codec/malformed', detail))
  }
  const vector = add(config.reference, difference.value)
  return allFinite(vector) ? decoded(vector) : refused(reject('codec/not-finite', 'start plus difference overflows'))
}

/**
 * Codes a snapshot of our parameters as their difference from the common start. Rounding is seeded by the exchange and
 * the sender, so it is fresh for every exchange and repeats with its seed. Throws `codec/*` when our own parameters have
 * diverged.
 */
export function ownSide(config: ExchangeConfig, parameters: Float32Array, exchangeId: ExchangeId): Side {
  const rng = seededRng('exchange', exchangeId, config.self)
  const payload = config.codec.encode(subtract(parameters, config.reference), rng)
  const vector = sideVector(config, payload)
  if (!vector.ok)
    throw new PeertuneError('consensus/own-side-unreadable', 'our own parameters do not survive coding', {
      facts: { codec: config.codec.name }
    })
  return { payload, vector: vector.value }
}

/** Reads the partner's side after checking that it is what the header announced. */
export function partnerSide(
  config: ExchangeConfig,
  header: PayloadHeader,
  payload: Uint8Array | undefined
): Decoded<Float32Array, SideCode> {
  if (payload === undefined || payload.length !== header.sizeBytes)
    return refused(reject('codec/malformed', `payload of ${payload?.length ?? 0} bytes, announced ${header.sizeBytes}`))
  if (sha256Hex(payload) !== header.sha256) return refused(reject('codec/bad-checksum'))
  return sideVector(config, payload)
}

/** The increment for our live parameters. Refused where two finite vectors are too far apart for a finite step. */
export function mixSides(
  config: ExchangeConfig,
  own: Float32Array,
  partner: Float32Array,
  partnerWeight: number
): Decoded<Float32Array, 'codec/not-finite'> {
  const { mix = pairwiseMean, weight: ownWeight, gamma } = config
  const increment = mix({ own, partner, ownWeight, partnerWeight, gamma })
  return allFinite(increment) ? decoded(increment) : refused(reject('codec/not-finite', 'the increment overflows'))
}

/** The sender of `hello`, seen as a peer: may it mix with us at all? */
export function helloRefusal(config: ExchangeConfig, hello: HelloMessage): RefusalCode | undefined {
  if (hello.federation !== config.federation) return 'other-federation'
  if (hello.schema !== config.schema.hash) return 'other-schema'
  if (hello.codec !== config.codec.name) return 'other-codec'
  if (hello.gamma !== config.gamma) return 'other-gamma'
  return isSaneWeight(hello.weight) ? undefined : 'absurd-weight'
}

/** Unique for as long as incarnations differ; says nothing about its parts to others. */
export const nextExchangeId = (config: ExchangeConfig, peer: PeerId, initiated: number): ExchangeId =>
  sha256Hex(JSON.stringify([config.incarnation, config.self, peer, initiated])).slice(0, 32)
