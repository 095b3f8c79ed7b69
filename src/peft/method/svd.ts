import type { Rng } from '../../base/rng.js'
import type { LinearView } from './merge-target.js'
import { inner, orthogonaliseRows, type Rows } from '../../tensor/jacobi.js'
import { orthonormalise } from '../../tensor/orthonormal.js'

export interface SingularTriplets {
  /** float64[rank], falling. */
  readonly values: Float64Array
  /** float64[rank, out], one left vector a row. */
  readonly left: Float64Array
  /** float64[rank, in], one right vector a row. */
  readonly right: Float64Array
}

export interface SvdOptions {
  readonly outFeatures: number
  readonly inFeatures: number
  readonly rank: number
  readonly rng: Rng
}

/** Further directions that are carried along and dropped at the end. */
const OVERSAMPLING = 8
/** Products with W and its transpose; more change the subspace by less than training does in a step. */
const ITERATIONS = 8

/**
 * The largest singular values and vectors of a matrix, by subspace iteration from a seeded start (Halko, Martinsson &
 * Tropp 2011, algorithm 4.4, https://arxiv.org/abs/0909.4061) and one-sided Jacobi on the small rest. Only + - * / and
 * square roots, in a fixed order: signs, rotations and every bit are the same on every peer.
 */
export function topSingular({ values, outStride, inStride }: LinearView, options: SvdOptions): SingularTriplets {
  const { outFeatures, inFeatures, rank, rng } = options
  const width = Math.min(rank + OVERSAMPLING, outFeatures, inFeatures)
  let right: Float64Array = Float64Array.from({ length: width * inFeatures }, () => 2 * rng.uniform() - 1)
  let left: Float64Array = new Float64Array()
  orthonormalise(right, width, inFeatures)
  const toLeft = { values, rows: outFeatures, columns: inFeatures, rowStride: outStride, columnStride: inStride }
  const toRight = { values, rows: inFeatures, columns: outFeatures, rowStride: inStride, columnStride: outStride }
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    left = multiply(toLeft, right, width)
    orthonormalise(left, width, outFeatures)
    right = multiply(toRight, left, width)
    if (iteration < ITERATIONS - 1) orthonormalise(right, width, inFeatures)
  }
  // W ~ left^T right with orthonormal rows of `left`: rotate both until the rows of `right` are orthogonal, too.
  const [rightRows, leftRows] = [
    { values: right, columns: inFeatures },
    { values: left, columns: outFeatures }
  ]
  orthogonaliseRows(rightRows, leftRows, width)
  return largestFirst(rightRows, leftRows, { width, rank })
}

/** A matrix in whatever layout. */
interface Matrix {
  readonly values: Float32Array
  readonly rows: number
  readonly columns: number
  readonly rowStride: number
  readonly columnStride: number
}

/** vectors float64[count, columns] -> (M v) of each, float64[count, rows]. */
function multiply(matrix: Matrix, vectors: Float64Array, count: number): Float64Array {
  const { values: m, rows, columns, rowStride, columnStride } = matrix
  const result = new Float64Array(count * rows)
  for (let k = 0; k < count; k++)
    for (let r = 0; r < rows; r++) {
      let sum = 0
      for (let c = 0; c < columns; c++) sum += m[r * rowStride + c * columnStride]! * vectors[k * columns + c]!
      result[k * rows + r] = sum
    }
  return result
}

function largestFirst(
  right: Rows,
  left: Rows,
  { width, rank }: { readonly width: number; readonly rank: number }
): SingularTriplets {
  const norms = Array.from({ length: width }, (_, k) => Math.sqrt(inner(right, k, k)))
  const order = norms.map((_, k) => k).sort((a, b) => norms[b]! - norms[a]! || a - b)
  const kept = order.slice(0, rank)
  const pick = ({ values: a, columns: size }: Rows, scale: (k: number) => number): Float64Array => {
    const out = new Float64Array(rank * size)
    for (const [row, k] of kept.entries())
      for (let i = 0; i < size; i++) out[row * size + i] = a[k * size + i]! * scale(k)
    return out
  }
  const values = new Float64Array(rank)
  for (const [row, k] of kept.entries()) values[row] = norms[k]!
  return {
    values,
    left: pick(left, () => 1),
    right: pick(right, (k) => (norms[k]! > 0 ? 1 / norms[k]! : 0))
  }
}
