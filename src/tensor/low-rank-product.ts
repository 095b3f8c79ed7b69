import { type Rows, smallSvd } from './jacobi.js'
import { orthonormalise } from './orthonormal.js'

/** B A with rows of A and columns of B as rows: float64[rank, inFeatures] and float64[rank, outFeatures]. */
export interface SlotRows {
  readonly a: Float64Array
  readonly b: Float64Array
  readonly rank: number
  readonly inFeatures: number
  readonly outFeatures: number
}

export interface TruncatedProduct {
  /** Of the result, as many slots as the anchor has. */
  readonly a: Float64Array
  readonly b: Float64Array
  /** ||what was cut off||_F. */
  readonly tail: number
}

/** Singular values below this share of the largest are noise of float32 factors. */
const NOISE = 1e-6

/** How much a direction of the result may count in the anchor's A, as a share of the largest, before it is lifted to that. */
const LEAST_GAIN = 0.1

/**
 * The best approximation of B A by factors of the anchor's rank, without forming the product: thin QR of both factors, an
 * SVD of the small matrix between them (Eckart & Young; Saadati et al. 2025, https://arxiv.org/abs/2505.21382, for peers),
 * at O((in + out) R^2 + R^3) for R slots.
 *
 * A product says nothing about how it is to be factored: (B G, G^-1 A) is the same for every invertible G. Here A stays as
 * close to the anchor's as the result allows, so that moments and what partners know of it go on meaning something, and
 * later averages of factors are averages of likes: with V the right singular vectors that are kept, A = G V^T for
 * G = A_anchor V and B = U S G^+. An orthogonal G (Procrustes on balanced factors) keeps the product's spectrum in A and so
 * shrinks the directions of A that B has little of; this one does not. Where the result has less rank than the anchor, the
 * rest of the anchor's A stays and its B is zero. Directions that the anchor's A hardly has are lifted.
 */
export function truncateProduct(product: SlotRows, anchor: Pick<SlotRows, 'a' | 'rank'>): TruncatedProduct {
  const { inFeatures, outFeatures } = product
  const { values, left, right } = productSvd(product)
  const limit = Math.min(anchor.rank, values.length)
  let kept = 0
  while (kept < limit && values[kept]! > NOISE * values[0]!) kept++
  const tail = Math.sqrt(values.subarray(kept).reduce((sum, value) => sum + value * value, 0))
  const gauge = gaugeOf(anchor, right.subarray(0, kept * inFeatures), { kept, inFeatures, values })
  // B, as rows: B_i = sum_k pseudo[k, i] s_k u_k.
  const scaled = left.slice(0, kept * outFeatures)
  for (let k = 0; k < kept; k++) for (let o = 0; o < outFeatures; o++) scaled[k * outFeatures + o]! *= values[k]!
  const b = times(transposed(gauge.pseudo, kept, anchor.rank), scaled, [anchor.rank, kept, outFeatures])
  return { a: gauge.a, b, tail }
}

/** Singular values of B A, falling, and its vectors: left float64[R, out], right float64[R, in]. */
function productSvd({ a, b, rank, inFeatures, outFeatures }: SlotRows) {
  const [qa, qb] = [a.slice(), b.slice()]
  orthonormalise(qa, rank, inFeatures)
  orthonormalise(qb, rank, outFeatures)
  // A = Ra Qa and B^T = Rb Qb, hence B A = Qb^T (Rb^T Ra) Qa.
  const ra = times(a, transposed(qa, rank, inFeatures), [rank, inFeatures, rank])
  const rb = times(b, transposed(qb, rank, outFeatures), [rank, outFeatures, rank])
  const small = smallSvd(times(transposed(rb, rank, rank), ra, [rank, rank, rank]), rank, rank)
  return {
    values: small.values,
    left: times(small.left, qb, [rank, rank, outFeatures]),
    right: times(small.right, qa, [rank, rank, inFeatures])
  }
}

interface Kept {
  readonly kept: number
  readonly inFeatures: number
  /** Singular values of the product. */
  readonly values: Float64Array
}

interface Gauge {
  /** float64[rank, in] */
  readonly a: Float64Array
  /** G^+, float64[kept, rank]. */
  readonly pseudo: Float64Array
}

/** A = G V^T + what of the anchor B does not see, for G = anchor V with its small singular values lifted. */
function gaugeOf(anchor: Pick<SlotRows, 'a' | 'rank'>, v: Float64Array, { kept, inFeatures, values }: Kept): Gauge {
  const { a, rank } = anchor
  // G^T = Z S P^T, float64[kept, rank].
  const gt = times(v, transposed(a, rank, inFeatures), [kept, inFeatures, rank])
  const { values: gains, left: z, right: p } = smallSvd(gt, kept, rank)
  const largest = kept > 0 && gains[0]! > 0 ? gains[0]! : Math.sqrt(values[0] ?? 0)
  completed(p, kept, rank)
  const lifted = gains.map((gain) => Math.max(gain, LEAST_GAIN * largest))
  const g = new Float64Array(rank * kept)
  const pseudo = new Float64Array(kept * rank)
  for (let j = 0; j < kept; j++)
    for (let i = 0; i < rank; i++)
      for (let k = 0; k < kept; k++) {
        const weight = p[j * rank + i]! * z[j * kept + k]!
        g[i * kept + k]! += lifted[j]! * weight
        pseudo[k * rank + i]! += weight / lifted[j]!
      }
  const result = times(g, v, [rank, kept, inFeatures])
  addRest(result, anchor, { v, gt, p, kept, inFeatures })
  return { a: result, pseudo }
}

/** Adds (I - P P^T)(anchor - (anchor V) V^T): B reads nothing of it, and slots without an effect stay alive. */
function addRest(
  result: Float64Array,
  { a, rank }: Pick<SlotRows, 'a' | 'rank'>,
  { v, gt, p, kept, inFeatures }: { v: Float64Array; gt: Float64Array; p: Float64Array } & Omit<Kept, 'values'>
): void {
  if (kept >= rank) return
  const seen = times(transposed(gt, kept, rank), v, [rank, kept, inFeatures])
  const rest = a.map((value, i) => value - seen[i]!)
  const along = times(p, rest, [kept, rank, inFeatures])
  const inP = times(transposed(p, kept, rank), along, [rank, kept, inFeatures])
  for (let i = 0; i < result.length; i++) result[i] = result[i]! + rest[i]! - inP[i]!
}

/** Replaces rows that are zero by unit vectors orthogonal to all others, in place. */
function completed(p: Float64Array, rows: number, columns: number): void {
  for (let row = 0, axis = 0; row < rows; row++) {
    while (isZero({ values: p, columns }, row) && axis < columns) {
      p[row * columns + axis++] = 1
      for (let other = 0; other < rows; other++)
        if (other !== row && !isZero({ values: p, columns }, other)) removeAlong({ values: p, columns }, row, other)
      normalise({ values: p, columns }, row)
    }
  }
}

const isZero = ({ values, columns }: Rows, row: number): boolean =>
  values.subarray(row * columns, (row + 1) * columns).every((value) => value === 0)

function removeAlong({ values, columns }: Rows, row: number, other: number): void {
  let along = 0
  for (let i = 0; i < columns; i++) along += values[row * columns + i]! * values[other * columns + i]!
  for (let i = 0; i < columns; i++) values[row * columns + i]! -= along * values[other * columns + i]!
}

/** To length 1, or to zero where next to nothing is left. */
function normalise({ values, columns }: Rows, row: number): void {
  let square = 0
  for (let i = 0; i < columns; i++) square += values[row * columns + i]! ** 2
  const scale = square > 1e-6 ? 1 / Math.sqrt(square) : 0
  for (let i = 0; i < columns; i++) values[row * columns + i]! *= scale
}

/** float64[n, m] float64[m, k] -> float64[n, k] */
function times(
  x: Float64Array,
  y: Float64Array,
  [n, m, k]: readonly [number, number, number]
): Float64Array<ArrayBuffer> {
  const out = new Float64Array(n * k)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      const value = x[i * m + j]!
      if (value === 0) continue
      for (let c = 0; c < k; c++) out[i * k + c] = out[i * k + c]! + value * y[j * k + c]!
    }
  return out
}

function transposed(x: Float64Array, rows: number, columns: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(x.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j]!
  return out
}
