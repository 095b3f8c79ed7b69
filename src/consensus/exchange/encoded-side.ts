import { sha256Hex } from '../../base/bytes.js'
import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, ignore, refused, reject } from '../../base/verdict.js'
import type { ExchangeId, HelloMessage, PayloadHeader, RefusalCode } from '../../codec/wire/messages.js'
import { allFinite } from '../../tensor/linear.js'
import type { Apart } from '../rules/distance.js'
import { euclidean } from '../rules/distance.js'
import type { Coding, Edge } from './edges.js'
import { codingOf, memoryOf } from './edges.js'
import type { ExchangeConfig, Side } from './types.js'
import type { Observation, Remembered } from './journal.js'
import type { PeerId } from '../peer-id.js'
import { pairwiseMean, pullScale } from '../rules/mixing.js'
import type { OuterState } from '../rules/outer-momentum.js'
import { outerStep } from '../rules/outer-momentum.js'
import { clipScale } from '../rules/radius.js'
import type { KnownLosses, RecentStates } from '../rules/robust-rule.js'
import { keepsStates, robustTarget } from '../rules/robust-rule.js'
import { agreedOn, type PairTerms } from './step-agreement.js'
import { isSaneWeight } from '../weight.js'

export type SideCode = 'codec/bad-checksum' | 'codec/not-finite' | 'codec/malformed'
/** Why two sides were not mixed: the partner's is out of range, or what we make of it ourselves is. */
export type MixCode = 'codec/not-finite' | 'exchange/own-step-too-far'

/** The vector that both ends take these bytes for. The same float32 operations on both, hence the same bits. */
function sideVector(coding: Coding, whose: 'own' | 'partner', payload: Uint8Array): Decoded<Float32Array, SideCode> {
  const vector = codingOf(coding.config.codec).decode(payload, memoryOf(coding), whose)
  if (!vector.ok) {
    const { verdict } = vector
    const detail = verdict.verdict === 'accept' ? undefined : verdict.detail
    const notFinite = verdict.verdict !== 'accept' && verdict.code === 'codec/not-finite'
    return refused(reject(notFinite ? 'codec/not-finite' : 'codec/malformed', detail))
  }
  return allFinite(vector.value) ? vector : refused(reject('codec/not-finite', 'reference plus difference overflows'))
}

/**
 * Codes a snapshot of our parameters against what both ends know. Rounding is seeded by the exchange and the sender, so it
 * is fresh for every exchange and repeats with its seed. Throws `codec/*` when our own parameters have diverged.
 */
export function ownSide(coding: Coding<ExchangeConfig>, parameters: Float32Array, exchangeId: ExchangeId): Side {
  const { config } = coding
  const rng = seededRng('exchange', exchangeId, config.self)
  const payload = codingOf(config.codec).encode(parameters, memoryOf(coding), rng)
  const vector = sideVector(coding, 'own', payload)
  if (!vector.ok)
    throw new PeertuneError('consensus/own-side-unreadable', 'our own parameters do not survive coding', {
      facts: { codec: config.codec.name }
    })
  return { payload, sha256: sha256Hex(payload), vector: vector.value }
}

/** Reads the partner's side after checking that it is what the header announced. */
export function partnerSide(
  coding: Coding,
  header: PayloadHeader,
  payload: Uint8Array | undefined
): Decoded<Side, SideCode> {
  if (payload === undefined || payload.length !== header.sizeBytes)
    return refused(reject('codec/malformed', `payload of ${payload?.length ?? 0} bytes, announced ${header.sizeBytes}`))
  const sha256 = sha256Hex(payload)
  if (sha256 !== header.sha256) return refused(reject('codec/bad-checksum'))
  const vector = sideVector(coding, 'partner', payload)
  return vector.ok ? decoded({ payload, sha256, vector: vector.value }) : vector
}

export interface MixedSides {
  /** For our live parameters, float32[schema.size]. */
  readonly increment: Float32Array
  readonly observed: Observation
  readonly leaves: Remembered
}

/** What of our state and the moment the arithmetic depends on. */
export interface MixScene {
  readonly peer: PeerId
  readonly recent: RecentStates
  /** Local steps taken. */
  readonly step: number
  /** For rules that compare losses. */
  readonly losses?: KnownLosses
  readonly outer?: OuterState
}

/** The two ends of an exchange, about to be mixed. */
export interface MixTask extends PairTerms {
  /** As both ends take them, float32[schema.size]. */
  readonly own: Float32Array
  readonly partner: Float32Array
  readonly partnerWeight: number
  readonly scene: MixScene
  /** Exchanges behind what was coded against. */
  readonly turns: number
}

/** What an exchange does to us. Refused where it would lead out of what can be sent. */
export function mixSides(config: ExchangeConfig, pair: MixTask): Decoded<MixedSides, MixCode> {
  const { own, partner, scene, turns } = pair
  const apart = (config.measure ?? euclidean)(own, partner)
  if (!Number.isFinite(apart.distance)) return refused(reject('codec/not-finite', 'the distance overflows'))
  const { scale, heldBack } = agreedOn(config, pair, apart.distance)
  const ofPair = (): Float32Array => pairIncrement(config, pair, scale)
  const mixed = robustIncrement(config, pair, apart) ?? { increment: ofPair(), scale }
  const outer = config.outer && outerStep(config.outer, { own, increment: mixed.increment, state: scene.outer })
  const increment = outer?.increment ?? mixed.increment
  const leadsOut = outOfRange(config, own, increment)
  if (leadsOut !== undefined) return refused(whoLedOut(outOfRange(config, own, ofPair()), leadsOut))
  return decoded({
    increment,
    observed: { ...apart, scale: mixed.scale, turns, ...(heldBack ? { heldBack } : {}), ...radiusOf(pair) },
    leaves: { ...(outer && { outer: outer.next }), ...(keepsStates(config) ? { seen: partner } : {}) }
  })
}

/** What is wrong with where an increment leads, if anything is. */
function outOfRange(config: ExchangeConfig, own: Float32Array, increment: Float32Array): string | undefined {
  if (!allFinite(increment)) return 'the increment overflows'
  return staysSendable(config, own, increment) ? undefined : 'the increment leads to where nothing can be sent from'
}

/**
 * The partner answers for the pair's mean alone: what our momentum or the states of others add to that is none of its doing,
 * and an honest one would be banned for it.
 */
const whoLedOut = (byPair: string | undefined, leadsOut: string) =>
  byPair === undefined ? ignore('exchange/own-step-too-far', leadsOut) : reject('codec/not-finite', byPair)

/** What the partner said of how far it follows us. */
const radiusOf = ({ partnerTerms: { radius } }: MixTask): Pick<Observation, 'radius'> =>
  radius === undefined ? {} : { radius }

/**
 * Of a codec's range, what an exchange may take us to. An edge codes the way from what it remembers, which is twice as long
 * where we have come from the other end; as much again is for local steps and for what was rounded.
 */
const SENDABLE_SHARE = 0.25

/**
 * Would we still be able to send ourselves? A liar that claims values at the end of the codec's range must not lead its
 * partners out of it, where they could not go on. Whoever is beyond already may come back.
 */
export function staysSendable(
  { codec, reference }: Pick<ExchangeConfig, 'codec' | 'reference'>,
  own: Float32Array,
  increment: Float32Array
): boolean {
  const most = SENDABLE_SHARE * (codec.range ?? Number.POSITIVE_INFINITY)
  for (let i = 0; i < own.length; i++) {
    const before = own[i]! - reference[i]!
    const after = Math.abs(before + increment[i]!)
    if (after > most && after > Math.abs(before)) return false
  }
  return true
}

function pairIncrement(config: ExchangeConfig, { own, partner, partnerWeight }: MixTask, scale: number): Float32Array {
  const { mix = pairwiseMean, weight: ownWeight, maxPull } = config
  const pull = maxPull === undefined ? 1 : pullScale(ownWeight, partnerWeight, maxPull)
  return mix({ own, partner, ownWeight, partnerWeight, gamma: config.gamma * scale * pull })
}

/** Towards where a rule over several states would have us, no farther than our own radius. Undefined without such a rule. */
function robustIncrement(
  config: ExchangeConfig,
  { own, partner, terms, scene }: MixTask,
  apart: Apart
): { readonly increment: Float32Array; readonly scale: number } | undefined {
  const { measure = euclidean, gamma } = config
  const target = robustTarget(config, { ...scene, own, partner, apart })
  if (target === undefined) return undefined
  const scale = clipScale(terms.radius ?? Number.POSITIVE_INFINITY, measure(own, target).distance)
  return { increment: target.map((value, i) => gamma * scale * (value - own[i]!)), scale }
}

/** What the partner's schema must hash to; undefined for slots that the federation does not have. */
const schemaOf = ({ schema, layouts }: ExchangeConfig, { slots }: HelloMessage): string | undefined =>
  layouts === undefined ? schema.hash : layouts.schemaHash(slots ?? 0)

/** What is announced of our slots; nothing where all peers have as many. */
export const slotsField = ({ layouts }: ExchangeConfig): Pick<HelloMessage, 'slots'> =>
  layouts === undefined ? {} : { slots: layouts.slots }

/** An edge that is of the pair's size, and not of one that the partner's earlier life was part of. */
export function fittingEdge(
  { schema, layouts }: ExchangeConfig,
  edge: Edge | undefined,
  slots: number | undefined
): Edge | undefined {
  const pair = slots === undefined ? undefined : layouts?.pairWith(slots)
  return edge?.memory.own.length === (pair?.own.schema ?? schema).size ? edge : undefined
}

/** The sender of `hello`, seen as a peer: may it mix with us at all? */
export function helloRefusal(config: ExchangeConfig, hello: HelloMessage): RefusalCode | undefined {
  if (hello.federation !== config.federation) return 'other-federation'
  if (hello.schema !== schemaOf(config, hello)) return 'other-schema'
  if (hello.codec !== config.codec.name) return 'other-codec'
  if (hello.gamma !== config.gamma) return 'other-gamma'
  return isSaneWeight(hello.weight) ? undefined : 'absurd-weight'
}

/** Unique for as long as incarnations differ; says nothing about its parts to others. */
export const nextExchangeId = (config: ExchangeConfig, peer: PeerId, initiated: number): ExchangeId =>
  sha256Hex(JSON.stringify([config.incarnation, config.self, peer, initiated])).slice(0, 32)
