import { PeertuneError } from '../../base/errors.js'
import { normal } from '../world/draws.js'
import type { KnownProblem, WorkloadParts } from '../world/workload-types.js'

/** Features at most: Newton's method solves a dense system of this size. */
const MAX_LOGISTIC_SIZE = 256
/** Weight of 1/2 ||x||^2, which makes the optimum unique. */
const RIDGE = 0.01
/** Examples of one local step. */
const BATCH = 8
/** Newton's method converges quadratically from 0: ten steps are many. */
const NEWTON_STEPS = 50

/** One peer's examples: features float64[n * size] row by row, labels 0 or 1. */
interface Examples {
  readonly features: Float64Array
  readonly labels: Uint8Array
}

const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z))
/** log(1 + e^z) without overflow. */
const softplus = (z: number): number => (z > 0 ? z + Math.log1p(Math.exp(-z)) : Math.log1p(Math.exp(z)))

/**
 * Logistic regression with a ridge. The labels follow one hidden vector; with heterogeneity each peer sees the features
 * shifted its own way, and so mostly one label. The optimum is Newton's, to machine precision.
 */
export function logistic({ scenario, weights, reference, rng, mislabelled }: WorkloadParts): KnownProblem {
  const { size, heterogeneity } = scenario.workload
  if (size > MAX_LOGISTIC_SIZE)
    throw new PeertuneError('config/bad-scenario', `workload.size: expected at most ${MAX_LOGISTIC_SIZE}, got ${size}`)
  const hidden = Float64Array.from({ length: size }, () => normal(rng))
  const own = weights.map((count): Examples => {
    const shift = Float64Array.from({ length: size }, () => heterogeneity * normal(rng))
    const features = Float64Array.from({ length: count * size }, (_, at) => normal(rng) + shift[at % size]!)
    const labels = Uint8Array.from({ length: count }, (_, n) =>
      rng.uniform() < sigmoid((2 * margin(features, n, hidden)) / Math.sqrt(size)) ? 1 : 0
    )
    return { features, labels }
  })
  const taught = own.map((examples, peer) => (mislabelled(peer) ? flipped(examples) : examples))
  const optimum = newton(own, size)
  const loss = (x: ArrayLike<number>) => totalLoss(own, x)
  return {
    reference,
    weights,
    trains: true,
    begin: (_, parameters) => parameters.set(reference),
    step(peer, x, { learningRate, rng: batchRng }) {
      const examples = taught[peer]!
      const gradient = Float64Array.from(x, (value) => RIDGE * value)
      for (let k = 0; k < BATCH; k++) addGradient(examples, batchRng.integer(examples.labels.length), x, gradient)
      for (let i = 0; i < size; i++) x[i] = x[i]! - learningRate * gradient[i]!
    },
    loss,
    optimum,
    bestLoss: loss(optimum)
  }
}

const flipped = ({ features, labels }: Examples): Examples => ({ features, labels: labels.map((label) => 1 - label) })

/** Inner product of example n with x. */
function margin(features: Float64Array, n: number, x: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0, at = n * x.length; i < x.length; i++, at++) sum += features[at]! * x[i]!
  return sum
}

function addGradient({ features, labels }: Examples, n: number, x: ArrayLike<number>, gradient: Float64Array): void {
  const residual = (sigmoid(margin(features, n, x)) - labels[n]!) / BATCH
  for (let i = 0, at = n * x.length; i < x.length; i++, at++) gradient[i] = gradient[i]! + residual * features[at]!
}

function totalLoss(own: readonly Examples[], x: ArrayLike<number>): number {
  let [sum, count] = [0, 0]
  for (const { features, labels } of own)
    labels.forEach((label, n) => {
      const z = margin(features, n, x)
      sum += softplus(z) - label * z
      count++
    })
  let square = 0
  for (let i = 0; i < x.length; i++) square += x[i]! ** 2
  return sum / count + (RIDGE / 2) * square
}

/** Newton-Raphson on all examples: x <- x - H^-1 g. */
function newton(own: readonly Examples[], size: number): Float64Array {
  const x = new Float64Array(size)
  for (let step = 0; step < NEWTON_STEPS; step++) {
    const { gradient, hessian } = derivatives(own, x)
    const move = solve(hessian, gradient)
    for (let i = 0; i < size; i++) x[i] = x[i]! - move[i]!
    if (Math.hypot(...move) < 1e-13) break
  }
  return x
}

function derivatives(own: readonly Examples[], x: Float64Array) {
  const size = x.length
  const count = own.reduce((sum, { labels }) => sum + labels.length, 0)
  const gradient = x.map((value) => RIDGE * value)
  const hessian = Array.from({ length: size }, (_, i) => {
    const row = new Float64Array(size)
    row[i] = RIDGE
    return row
  })
  for (const { features, labels } of own)
    labels.forEach((label, n) => {
      const p = sigmoid(margin(features, n, x))
      for (let i = 0; i < size; i++) {
        const feature = features[n * size + i]!
        gradient[i] = gradient[i]! + ((p - label) * feature) / count
        const row = hessian[i]!
        for (let j = 0; j < size; j++) row[j] = row[j]! + (p * (1 - p) * feature * features[n * size + j]!) / count
      }
    })
  return { gradient, hessian }
}

/** Gaussian elimination; the ridge keeps every pivot of this positive definite matrix away from 0. */
function solve(matrix: readonly Float64Array[], right: Float64Array): Float64Array {
  const size = right.length
  const a = matrix.map((row, i) => Float64Array.of(...row, right[i]!))
  for (let k = 0; k < size; k++)
    for (let i = k + 1; i < size; i++) {
      const factor = a[i]![k]! / a[k]![k]!
      for (let j = k; j <= size; j++) a[i]![j] = a[i]![j]! - factor * a[k]![j]!
    }
  const x = new Float64Array(size)
  for (let i = size - 1; i >= 0; i--) {
    let sum = a[i]![size]!
    for (let j = i + 1; j < size; j++) sum -= a[i]![j]! * x[j]!
    x[i] = sum / a[i]![i]!
  }
  return x
}
