import { PeertuneError } from '../base/errors.js'

/**
 * Linear algebra on flat float32 vectors. Sums are carried in float64: over 10^7 elements a float32 sum loses the very
 * digits in which peers differ.
 */

function requireSameLength(operation: string, a: ArrayLike<unknown>, b: ArrayLike<unknown>): void {
  if (a.length !== b.length)
    throw new PeertuneError('tensor/length-mismatch', `${operation}: vectors of ${a.length} and ${b.length} elements`, {
      facts: { expected: a.length, got: b.length }
    })
}

/** y <- y + alpha * x, in place. Throws `tensor/length-mismatch`. */
export function axpy(alpha: number, x: Float32Array, y: Float32Array): void {
  requireSameLength('axpy', x, y)
  for (let i = 0; i < x.length; i++) y[i] = y[i]! + alpha * x[i]!
}

/** y <- y + x, in place. Throws `tensor/length-mismatch`. */
export function addInto(x: Float32Array, y: Float32Array): void {
  requireSameLength('addInto', x, y)
  for (let i = 0; i < x.length; i++) y[i] = y[i]! + x[i]!
}

/** a - b, a new vector. Throws `tensor/length-mismatch`. */
export function subtract(a: Float32Array, b: Float32Array): Float32Array {
  requireSameLength('subtract', a, b)
  const out = new Float32Array(a.length)
  for (let i = 0; i < a.length; i++) out[i] = a[i]! - b[i]!
  return out
}

/** a + b, a new vector. Throws `tensor/length-mismatch`. */
export function add(a: Float32Array, b: Float32Array): Float32Array {
  requireSameLength('add', a, b)
  const out = new Float32Array(a.length)
  for (let i = 0; i < a.length; i++) out[i] = a[i]! + b[i]!
  return out
}

/** Inner product. Throws `tensor/length-mismatch`. */
export function dot(a: Float32Array, b: Float32Array): number {
  requireSameLength('dot', a, b)
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

/** Euclidean norm. */
export const norm2 = (x: Float32Array): number => Math.sqrt(dot(x, x))

/** Euclidean distance ||a - b||. Throws `tensor/length-mismatch`. */
export function distance2(a: Float32Array, b: Float32Array): number {
  requireSameLength('distance2', a, b)
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return Math.sqrt(sum)
}

/** True if no element is NaN or infinite. */
export function allFinite(x: Float32Array): boolean {
  for (let i = 0; i < x.length; i++) if (!Number.isFinite(x[i]!)) return false
  return true
}

/**
 * sum_i w_i x_i / sum_i w_i, in float64 so that a network's mean can be compared before and after to many digits.
 * Throws `tensor/length-mismatch` and, for no vectors or weights that do not sum to something positive, `tensor/no-weight`.
 */
export function weightedMean(vectors: readonly Float32Array[], weights: readonly number[]): Float64Array {
  requireSameLength('weightedMean', vectors, weights)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const first = vectors[0]
  if (first === undefined || !(total > 0))
    throw new PeertuneError('tensor/no-weight', 'weightedMean: needs at least one vector and a positive total weight', {
      facts: { vectors: vectors.length, total }
    })
  const mean = new Float64Array(first.length)
  vectors.forEach((vector, k) => {
    requireSameLength('weightedMean', first, vector)
    const share = weights[k]! / total
    for (let i = 0; i < mean.length; i++) mean[i] = mean[i]! + share * vector[i]!
  })
  return mean
}
