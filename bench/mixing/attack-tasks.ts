import type { Rng } from '../../src/base/rng.js'
import { seededRng } from '../../src/base/rng.js'
import { euclidean, productDistance, type DistanceMeasure } from '../../src/consensus/rules/distance.js'
import type { FactorPair } from '../../src/tensor/factors.js'
import { factorsOf } from '../../src/tensor/factors.js'
import { createSchema, type ParameterSchema } from '../../src/tensor/schema.js'

export interface Sample {
  readonly features: Float32Array
  readonly label: number
}

/** Something peers learn: small enough that a run of sixteen takes less than a second. */
export interface AttackTask {
  readonly classes: number
  readonly schema: ParameterSchema
  readonly measure: DistanceMeasure
  readonly pairs: readonly FactorPair[]
  /** The common start, float32[schema.size]. */
  readonly start: Float32Array
  draw(label: number, rng: Rng): Sample
  /** One step of gradient descent on a batch, in place. */
  step(parameters: Float32Array, batch: readonly Sample[]): void
  /** Scores by class, float64[classes]. */
  logits(parameters: Float32Array, sample: Sample): Float64Array
}

export const normal = (rng: Rng): number =>
  Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform())

/** In place: a run asks for some two hundred thousand of them. */
function probabilities(scores: Float64Array): Float64Array {
  let top = Number.NEGATIVE_INFINITY
  for (const score of scores) top = Math.max(top, score)
  let total = 0
  for (let i = 0; i < scores.length; i++) total += scores[i] = Math.exp(scores[i]! - top)
  for (let i = 0; i < scores.length; i++) scores[i]! /= total
  return scores
}

/** Mean cross entropy in nats. */
export const lossOf = (task: AttackTask, parameters: Float32Array, samples: readonly Sample[]): number =>
  samples.reduce(
    (sum, sample) => sum - Math.log(1e-12 + probabilities(task.logits(parameters, sample))[sample.label]!),
    0
  ) / samples.length

export function accuracyOf(task: AttackTask, parameters: Float32Array, samples: readonly Sample[]): number {
  const right = samples.filter((sample) => {
    const scores = task.logits(parameters, sample)
    return scores.indexOf(Math.max(...scores)) === sample.label
  })
  return right.length / samples.length
}

interface Data {
  readonly classes: number
  readonly features: number
  draw(label: number, rng: Rng): Sample
}

/** Clouds of points around ten centres: the best linear model gets about nine in ten right. */
function clouds(seed: string): Data {
  const [classes, features] = [10, 20]
  const rng = seededRng('attack-experiment', seed)
  const centres = Array.from({ length: classes }, () => Array.from({ length: features }, () => 0.75 * normal(rng)))
  return {
    classes,
    features,
    draw: (label, from) => ({
      label,
      features: Float32Array.from(centres[label]!, (value) => value + normal(from))
    })
  }
}

/** Texts of twenty words out of forty, each of eight classes with words of its own: roots of their counts. */
function words(seed: string): Data {
  const [classes, features, length] = [8, 40, 20]
  const rng = seededRng('attack-words', seed)
  const odds = Array.from({ length: classes }, () =>
    Array.from({ length: features }, () => Math.exp(0.8 * normal(rng)))
  )
  const totals = odds.map((row) => row.reduce((sum, value) => sum + value, 0))
  const word = (label: number, from: Rng): number => {
    let rest = from.uniform() * totals[label]!
    return Math.max(
      0,
      odds[label]!.findIndex((value) => {
        rest -= value
        return rest < 0
      })
    )
  }
  return {
    classes,
    features,
    draw(label, from) {
      const counts = new Float32Array(features)
      for (let i = 0; i < length; i++) counts[word(label, from)]! += 1
      return { label, features: counts.map(Math.sqrt) }
    }
  }
}

/** Softmax regression: a weight matrix and a bias. */
function linearModel(data: Data, rate: number): AttackTask {
  const { classes, features } = data
  const schema = createSchema([
    { name: 'weight', shape: [classes, features] },
    { name: 'bias', shape: [classes] }
  ])
  const bias = classes * features
  const logits = (x: Float32Array, sample: Sample): Float64Array => {
    const scores = new Float64Array(classes)
    for (let label = 0; label < classes; label++) {
      let sum = x[bias + label]!
      for (let i = 0; i < features; i++) sum += x[label * features + i]! * sample.features[i]!
      scores[label] = sum
    }
    return scores
  }
  return {
    classes,
    schema,
    measure: euclidean,
    pairs: [],
    start: new Float32Array(schema.size),
    draw: data.draw,
    logits,
    step(x, batch) {
      const gradient = new Float32Array(schema.size)
      for (const sample of batch) {
        const odds = probabilities(logits(x, sample))
        for (let label = 0; label < classes; label++) {
          const error = (odds[label]! - (label === sample.label ? 1 : 0)) / batch.length
          for (let i = 0; i < features; i++) gradient[label * features + i]! += error * sample.features[i]!
          gradient[bias + label]! += error
        }
      }
      for (let i = 0; i < schema.size; i++) x[i]! -= rate * gradient[i]!
    }
  }
}

const RANK = 6

/** Softmax regression through a low-rank product, as LoRA has it: logits = B A x, A drawn from a seed and B zero. */
function lowRankModel(data: Data, rate: number): AttackTask {
  const { classes, features } = data
  const schema = createSchema([
    { name: 'layer.lora_A.weight', shape: [RANK, features] },
    { name: 'layer.lora_B.weight', shape: [classes, RANK] }
  ])
  const atB = RANK * features
  const rng = seededRng('low-rank-start')
  const start = Float32Array.from({ length: schema.size }, (_, i) => (i < atB ? normal(rng) / Math.sqrt(features) : 0))
  const hidden = (x: Float32Array, sample: Sample): Float64Array => {
    const values = new Float64Array(RANK)
    for (let r = 0; r < RANK; r++)
      for (let i = 0; i < features; i++) values[r]! += x[r * features + i]! * sample.features[i]!
    return values
  }
  const scores = (x: Float32Array, h: Float64Array): Float64Array => {
    const values = new Float64Array(classes)
    for (let label = 0; label < classes; label++)
      for (let r = 0; r < RANK; r++) values[label]! += x[atB + label * RANK + r]! * h[r]!
    return values
  }
  return {
    classes,
    schema,
    measure: productDistance(schema, () => 1),
    pairs: factorsOf(schema).pairs,
    start,
    draw: data.draw,
    logits: (x, sample) => scores(x, hidden(x, sample)),
    step(x, batch) {
      const gradient = new Float32Array(schema.size)
      for (const sample of batch) {
        const h = hidden(x, sample)
        const back = new Float64Array(RANK)
        const odds = probabilities(scores(x, h))
        for (let label = 0; label < classes; label++) {
          const error = (odds[label]! - (label === sample.label ? 1 : 0)) / batch.length
          for (let r = 0; r < RANK; r++) {
            gradient[atB + label * RANK + r]! += error * h[r]!
            back[r]! += error * x[atB + label * RANK + r]!
          }
        }
        for (let r = 0; r < RANK; r++)
          for (let i = 0; i < features; i++) gradient[r * features + i]! += back[r]! * sample.features[i]!
      }
      for (let i = 0; i < schema.size; i++) x[i]! -= rate * gradient[i]!
    }
  }
}

/** `clouds` is what the default was chosen on; the others were not looked at for that. */
export const ATTACK_TASKS = {
  clouds: (seed: string) => linearModel(clouds(seed), 0.1),
  'low-rank': (seed: string) => lowRankModel(clouds(seed), 0.1),
  words: (seed: string) => linearModel(words(seed), 0.3)
} as const

export type AttackTaskName = keyof typeof ATTACK_TASKS
