import type { FactorPair } from '../../tensor/factors.js'
import { factorsOf } from '../../tensor/factors.js'
import { distance2 } from '../../tensor/linear.js'
import type { ParameterEntry, ParameterSchema } from '../../tensor/schema.js'

/** How far two parameter vectors are apart, in whatever space a measure looks at. */
export interface Apart {
  /** At least 0; infinite where the vectors are too far apart for float64. */
  readonly distance: number
  /** ||mean(BA) - mean(B) mean(A)||_F over the factor pairs; absent where there are none. */
  readonly crossTerm?: number
  /** It as a share of ||mean(BA)||_F. */
  readonly crossShare?: number
}

/** Symmetric: both ends of an exchange measure the same pair and must come to the same number. */
export type DistanceMeasure = (a: Float32Array, b: Float32Array) => Apart

export const euclidean: DistanceMeasure = (a, b) => ({ distance: distance2(a, b) })

/** Row-major rank x rank, float64. */
type Gram = Float64Array

/** Where the numbers of one factor stand: element k of slot i is at offset + i * slot + k * step. */
interface Layout {
  readonly offset: number
  readonly rank: number
  readonly length: number
  readonly slot: number
  readonly step: number
}

const layoutA = ({ a, rank, inFeatures }: FactorPair): Layout => ({
  offset: a.offset,
  rank,
  length: inFeatures,
  slot: inFeatures,
  step: 1
})

const layoutB = ({ b, rank, outFeatures }: FactorPair): Layout => ({
  offset: b.offset,
  rank,
  length: outFeatures,
  slot: 1,
  step: rank
})

/** Inner products, slot by slot, of the difference a - b and the middle (a + b) / 2 of one factor. */
interface FactorGrams {
  readonly change: Gram
  readonly middle: Gram
  /** Row: slot of the change; column: slot of the middle. */
  readonly mixed: Gram
}

function gramsOf({ offset, rank, length, slot, step }: Layout, a: Float32Array, b: Float32Array): FactorGrams {
  const change = new Float64Array(rank * rank)
  const middle = new Float64Array(rank * rank)
  const mixed = new Float64Array(rank * rank)
  const moved = new Float64Array(rank)
  const half = new Float64Array(rank)
  for (let k = 0; k < length; k++) {
    for (let i = 0; i < rank; i++) {
      const at = offset + i * slot + k * step
      moved[i] = a[at]! - b[at]!
      half[i] = (a[at]! + b[at]!) / 2
    }
    for (let i = 0; i < rank; i++) {
      const row = i * rank
      const m = moved[i]!
      const h = half[i]!
      for (let j = 0; j < rank; j++) mixed[row + j] = mixed[row + j]! + m * half[j]!
      // The other two are symmetric: the upper triangle is enough.
      for (let j = i; j < rank; j++) {
        change[row + j] = change[row + j]! + m * moved[j]!
        middle[row + j] = middle[row + j]! + h * half[j]!
      }
    }
  }
  mirror(change, rank)
  mirror(middle, rank)
  return { change, middle, mixed }
}

/** Copies the upper triangle to the lower. */
function mirror(gram: Gram, rank: number): void {
  for (let i = 0; i < rank; i++) for (let j = 0; j < i; j++) gram[i * rank + j] = gram[j * rank + i]!
}

/** <X, Y> of two Grams; the Frobenius product of two low-rank products. */
function contract(x: Gram, y: Gram): number {
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!
  return sum
}

/** <X^T, Y>. */
function contractTransposed(x: Gram, y: Gram, rank: number): number {
  let sum = 0
  for (let i = 0; i < rank; i++) for (let j = 0; j < rank; j++) sum += x[i * rank + j]! * y[j * rank + i]!
  return sum
}

/** Squared norms: of B_1 A_1 - B_2 A_2, of (B_1 - B_2)(A_1 - A_2), and of mean(BA); without forming a product. */
function pairApart(
  pair: FactorPair,
  a: Float32Array,
  b: Float32Array
): { product: number; cross: number; mean: number } {
  const forA = gramsOf(layoutA(pair), a, b)
  const forB = gramsOf(layoutB(pair), a, b)
  const product =
    contract(forB.change, forA.middle) +
    contract(forB.middle, forA.change) +
    2 * contractTransposed(forB.mixed, forA.mixed, pair.rank)
  const cross = Math.max(0, contract(forB.change, forA.change))
  // mean(BA) = B~ A~ + dB dA / 4
  const mean = contract(forB.middle, forA.middle) + contract(forB.mixed, forA.mixed) / 2 + cross / 16
  // Rounding may leave a hair below zero where the products are equal.
  return { product: Math.max(0, product), cross, mean: Math.max(0, mean) }
}

/** What a cross term may come to of a mean product of next to nothing: finite, for it goes into files and messages. */
const MAX_SHARE = 1e6

/** 0 of nothing: two peers that have both not moved leave nothing out. */
const shareOf = (part: number, whole: number): number => (part === 0 ? 0 : Math.min(MAX_SHARE, part / whole))

function plainApart(entries: readonly ParameterEntry[], a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (const { offset, size } of entries) for (let i = offset; i < offset + size; i++) sum += (a[i]! - b[i]!) ** 2
  return sum
}

/**
 * How far two adapters are apart in what they do, not in how they are written: factors within everybody's range can make
 * a product far out of it (gradient assembly, https://arxiv.org/abs/2601.00566). With dB, dA the differences and B~, A~ the
 * middles of two pairs of factors,
 *
 *   B_1 A_1 - B_2 A_2 = dB A~ + B~ dA          (an identity; its norm from r x r Grams, in O((in + out) r^2))
 *   mean(BA) - mean(B) mean(A) = dB dA / 4     (the cross term)
 *
 * and the distance is ||dB A~ + B~ dA|| + ||dB dA|| / 2: never less than twice the way the product goes when the factors
 * move to their middle. The second part is what the product alone cannot see: (-B, -A) has the same product as (B, A),
 * and half way between them is nothing. `scaleOf(rank)` multiplies the products; other tensors count as they are.
 */
export function productDistance(schema: ParameterSchema, scaleOf: (rank: number) => number): DistanceMeasure {
  const { pairs, others } = factorsOf(schema)
  if (pairs.length === 0) return euclidean
  return (a, b) => {
    let products = plainApart(others, a, b)
    let crosses = 0
    let means = 0
    for (const pair of pairs) {
      const { product, cross, mean } = pairApart(pair, a, b)
      const scale2 = scaleOf(pair.rank) ** 2
      products += scale2 * product
      crosses += scale2 * cross
      means += scale2 * mean
    }
    const cross = Math.sqrt(crosses)
    const crossTerm = cross / 4
    return { distance: Math.sqrt(products) + cross / 2, crossTerm, crossShare: shareOf(crossTerm, Math.sqrt(means)) }
  }
}
