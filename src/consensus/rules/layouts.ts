import type { PeerRanks } from '../../base/federation.js'
import type { VectorCodec } from '../../codec/codec.js'
import { type PayloadBound, payloadBound } from '../../codec/wire/payload.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { nestedPart, slotCount, withSlots } from '../../tensor/slots.js'
import { keepLatest } from '../keep-latest.js'
import { type DistanceMeasure, productDistance } from './distance.js'
import type { MixingRule } from './mixing.js'
import { mixProducts } from './nested-mixing.js'

/** How one side of an exchange is coded. */
export interface SideLayout {
  readonly schema: ParameterSchema
  /** float32[schema.size] */
  readonly reference: Float32Array
  readonly codec: VectorCodec
}

/** How we and a partner with a certain number of slots exchange. */
export interface PairLayout {
  readonly own: SideLayout
  readonly partner: SideLayout
  /** Of vectors as the two sides lie. */
  readonly measure: DistanceMeasure
  /** Absent: the federation's own. */
  readonly mix?: MixingRule
  /** Our parameters -> what we send of them. */
  take(parameters: Float32Array): Float32Array
  /** What mixing adds to that -> what it adds to our parameters. */
  expand(increment: Float32Array): Float32Array
}

/** Peers of one federation with different numbers of rank slots. */
export interface Layouts {
  /** Ours. */
  readonly slots: number
  /** What a partner may send at most. */
  readonly payload: PayloadBound
  /** Hash of the schema of a peer with so many; undefined for a number that the federation does not have. */
  schemaHash(slots: number): string | undefined
  /** Likewise. Whatever a peer claims to have ends here. */
  pairWith(slots: number): PairLayout | undefined
}

export interface LayoutsInit {
  readonly rule: PeerRanks
  /** Of what we share. */
  readonly schema: ParameterSchema
  /** The common start, float32[schema.size]. */
  readonly reference: Float32Array
  /** Slots of the federation's plan. */
  readonly most: number
  readonly codecFor: (schema: ParameterSchema) => VectorCodec
  /** What multiplies every product B A, the same on every peer. */
  readonly scale: number
}

/** Pairs kept ready, the one used last at the end: each has a copy of the reference. Ranks are few in one federation. */
const MAX_PAIRS = 8

/**
 * `nested`: both send the slots that both have and average those; slots of one stay at home. Everything is as between peers
 * of that smaller number, so the weighted mean of every slot over its holders stays, whatever the codec loses.
 *
 * `product`: each sends all of its slots, those that the other has as differences from the common start and the rest as
 * they are, and each cuts the mean of both products to its own rank (nested-mixing.ts).
 */
export function createLayouts(init: LayoutsInit): Layouts {
  const { schema, most, codecFor } = init
  const slots = slotCount(schema) ?? 0
  let pairs: ReadonlyMap<number, PairLayout> = new Map()
  const has = (count: number): boolean => Number.isInteger(count) && count >= 1 && count <= most
  const largest = init.rule === 'product' ? withSlots(schema, most) : schema
  return {
    slots,
    // Partners with fewer slots send less.
    payload: { ...payloadBound(codecFor(largest), largest.size), variableLength: true },
    schemaHash: (count) => (has(count) ? withSlots(schema, count).hash : undefined),
    pairWith(count) {
      if (!has(count)) return undefined
      const pair = pairs.get(count) ?? pairLayout(init, slots, count)
      pairs = keepLatest(pairs, [count, pair], MAX_PAIRS)
      return pair
    }
  }
}

function pairLayout(init: LayoutsInit, slots: number, partnerSlots: number): PairLayout {
  const { rule, schema, reference, codecFor, scale } = init
  const common = nestedPart(schema, withSlots(schema, Math.min(slots, partnerSlots)))
  const start = common.take(reference)
  const scaleOf = () => scale
  if (rule === 'nested') {
    const side = { schema: common.schema, reference: start, codec: codecFor(common.schema) }
    const measure = productDistance(common.schema, scaleOf)
    return { own: side, partner: side, measure, take: common.take, expand: common.expand }
  }
  /** Of so many slots; the start of those that one side lacks is unknown to it. */
  const sideOf = (count: number): SideLayout => {
    const whole = withSlots(schema, count)
    return { schema: whole, reference: nestedPart(whole, common.schema).expand(start), codec: codecFor(whole) }
  }
  const [own, partner] = [sideOf(slots), sideOf(partnerSlots)]
  return { own, partner, ...ofProducts(own.schema, partner.schema, scaleOf), take: same, expand: same }
}

const same = (vector: Float32Array): Float32Array => vector

/** Between peers of one rank factors are averaged as ever: common slots mean the same. */
function ofProducts(own: ParameterSchema, partner: ParameterSchema, scaleOf: () => number) {
  if (own.hash === partner.hash) return { measure: productDistance(own, scaleOf) }
  const larger = own.size > partner.size ? own : partner
  const [ours, theirs] = [nestedPart(larger, own), nestedPart(larger, partner)]
  const measure = productDistance(larger, scaleOf)
  const mix: MixingRule = ({ own: vector, partner: other, ownWeight, partnerWeight, gamma }) => {
    const rho = (gamma * partnerWeight) / (ownWeight + partnerWeight)
    return mixProducts({ vector, schema: own }, { vector: other, schema: partner }, rho).increment
  }
  return { measure: (a: Float32Array, b: Float32Array) => measure(ours.expand(a), theirs.expand(b)), mix }
}
