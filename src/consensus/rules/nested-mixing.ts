import { factorsOf, type FactorPair } from '../../tensor/factors.js'
import { type SlotRows, truncateProduct } from '../../tensor/low-rank-product.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { nestedPart, slotCount } from '../../tensor/slots.js'

/** A peer's parameters and how they lie. Scales are the federation's: every peer multiplies B A by the same number. */
export interface Sized {
  readonly vector: Float32Array
  readonly schema: ParameterSchema
}

export interface NestedMix {
  /** For our parameters, float32[own.schema.size]. */
  readonly increment: Float32Array
  /** ||what truncation has cut off||_F over all products; 0 where nothing was. */
  readonly tail: number
}

/**
 * The pair average of peers with different numbers of slots, slot by slot over those that have it: rho (partner - own) on
 * the slots of both, nothing on those of one (rank-slot averaging, RBLA; zero padding would pull the larger peer's last
 * slots towards nothing). Linear, and antisymmetric on every slot: the weighted mean of each slot over its holders stays.
 *
 * @param rho step towards the partner: gamma * partnerWeight / (ownWeight + partnerWeight).
 */
export function mixSlots(own: Sized, partner: Sized, rho: number): NestedMix {
  const common = commonPart(own, partner)
  const [ours, theirs] = [common.ofOwn.take(own.vector), common.ofPartner.take(partner.vector)]
  const step = ours.map((value, i) => rho * (theirs[i]! - value))
  return { increment: common.ofOwn.expand(step), tail: 0 }
}

/** The slots that both have, as a part of each. */
function commonPart(own: Sized, partner: Sized) {
  const [ownSlots, partnerSlots] = [slotCount(own.schema) ?? 0, slotCount(partner.schema) ?? 0]
  const schema = ownSlots <= partnerSlots ? own.schema : partner.schema
  return { ofOwn: nestedPart(own.schema, schema), ofPartner: nestedPart(partner.schema, schema) }
}

/**
 * The pair average of what adapters do: (1 - rho) B A + rho B' A' for every pair of factors, cut to our rank by its largest
 * singular values (FlexLoRA, Bai et al. 2024, https://arxiv.org/abs/2402.11505; DeCAF for peers). Exact where our rank
 * suffices, and never farther from the mean than averaged factors of that rank; but what is cut off is gone, so the mean
 * over all peers shrinks by it (`tail`). Factors stay close to those that `mixSlots` would give, which both sides of equal
 * rank know: they then come to the same bits. Other tensors are mixed as `mixSlots` does.
 */
export function mixProducts(own: Sized, partner: Sized, rho: number): NestedMix {
  const { increment } = mixSlots(own, partner, rho)
  const others = new Map(factorsOf(partner.schema).pairs.map((pair) => [pair.a.name, pair]))
  let tail2 = 0
  for (const pair of factorsOf(own.schema).pairs) {
    const other = others.get(pair.a.name)
    if (other === undefined) continue
    const anchor = rowsOf(pair, (place) => own.vector[place]! + increment[place]!)
    const mean = stacked(
      rowsOf(pair, (place) => own.vector[place]!, 1 - rho),
      rowsOf(other, (place) => partner.vector[place]!, rho)
    )
    const truncated = truncateProduct(mean, anchor)
    tail2 += truncated.tail * truncated.tail
    writeRows(pair, truncated, (place, value) => {
      increment[place] = value - own.vector[place]!
    })
  }
  return { increment, tail: Math.sqrt(tail2) }
}

/** Rows of A, and of B^T times `share`; `at` reads the flat vector they lie in. */
function rowsOf(pair: FactorPair, at: (place: number) => number, share = 1): SlotRows {
  const { a, b, rank, inFeatures, outFeatures } = pair
  return {
    rank,
    inFeatures,
    outFeatures,
    a: Float64Array.from({ length: rank * inFeatures }, (_, i) => at(a.offset + i)),
    b: Float64Array.from(
      { length: rank * outFeatures },
      (_, i) => share * at(b.offset + (i % outFeatures) * rank + Math.floor(i / outFeatures))
    )
  }
}

function stacked(x: SlotRows, y: SlotRows): SlotRows {
  const { inFeatures, outFeatures } = x
  const join = (first: Float64Array, second: Float64Array): Float64Array => {
    const all = new Float64Array(first.length + second.length)
    all.set(first)
    all.set(second, first.length)
    return all
  }
  return { rank: x.rank + y.rank, inFeatures, outFeatures, a: join(x.a, y.a), b: join(x.b, y.b) }
}

/** Puts every element of A and B to where it lies in the flat vector. */
function writeRows(
  { a, b, rank, outFeatures }: FactorPair,
  rows: Pick<SlotRows, 'a' | 'b'>,
  put: (place: number, value: number) => void
): void {
  for (let i = 0; i < rows.a.length; i++) put(a.offset + i, rows.a[i]!)
  for (let r = 0; r < rank; r++)
    for (let o = 0; o < outFeatures; o++) put(b.offset + o * rank + r, rows.b[r * outFeatures + o]!)
}
