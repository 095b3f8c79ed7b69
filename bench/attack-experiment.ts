import { isPeertuneError } from '../src/base/errors.js'
import { type Rng, seededRng } from '../src/base/rng.js'
import type { CodecName } from '../src/codec/codec.js'
import { codecByName, defaultGamma } from '../src/codec/registry.js'
import type { Attack } from '../src/consensus/attacks.js'
import { initialExchangeState, stepExchange } from '../src/consensus/exchange.js'
import type { ExchangeConfig, ExchangeEffect, ExchangeEvent, ExchangeState } from '../src/consensus/exchange-types.js'
import { addInto } from '../src/tensor/linear.js'

/** Softmax regression on clouds of points around the corners of a simplex-like set of centres. */
const CLASSES = 10
const FEATURES = 20
const SIZE = CLASSES * (FEATURES + 1)
/** Distance of the centres in standard deviations of a cloud: the best linear model gets about nine in ten right. */
const CENTRE_SCALE = 0.75
const SAMPLES_PER_PEER = 120
const TEST_SAMPLES = 1000
const ROUNDS = 60
const SETTLE_ROUNDS = 12
const LOCAL_STEPS = 5
const BATCH = 16
const LEARNING_RATE = 0.1

export interface ExperimentInit {
  readonly peers: number
  readonly attackers: number
  /** Absent: the attackers behave. */
  readonly attack?: Attack
  /** Concentration of the label split; absent: every peer draws from all classes alike. */
  readonly dirichlet?: number
  readonly clip?: number
  readonly codec?: CodecName
  readonly seed: string
}

export interface ExperimentResult {
  /** Mean over the honest peers, on data of all classes. */
  readonly accuracy: number
  /** Of the worst honest peer. */
  readonly worst: number
  /** Share of the exchanges between honest peers in which something was clipped. */
  readonly clipRate: number
}

interface Sample {
  readonly features: Float32Array
  readonly label: number
}

const normal = (rng: Rng): number => Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform())

function drawSample(centres: readonly Float32Array[], label: number, rng: Rng): Sample {
  return { label, features: centres[label]!.map((value) => value + normal(rng)) }
}

/** Gamma(shape, 1) by Marsaglia & Tsang 2000, boosted below shape 1. */
function gamma(shape: number, rng: Rng): number {
  if (shape < 1) return gamma(shape + 1, rng) * (1 - rng.uniform()) ** (1 / shape)
  const d = shape - 1 / 3
  for (;;) {
    const x = normal(rng)
    const v = (1 + x / Math.sqrt(9 * d)) ** 3
    if (v > 0 && Math.log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v
  }
}

function labelShares(concentration: number | undefined, rng: Rng): readonly number[] {
  if (concentration === undefined) return Array.from({ length: CLASSES }, () => 1 / CLASSES)
  const draws = Array.from({ length: CLASSES }, () => gamma(concentration, rng) + 1e-12)
  const total = draws.reduce((sum, value) => sum + value, 0)
  return draws.map((value) => value / total)
}

function drawLabel(shares: readonly number[], rng: Rng): number {
  let rest = rng.uniform()
  for (let label = 0; label < shares.length - 1; label++) {
    rest -= shares[label]!
    if (rest < 0) return label
  }
  return shares.length - 1
}

function logits(parameters: Float32Array, { features }: Sample): Float64Array {
  const out = new Float64Array(CLASSES)
  for (let label = 0; label < CLASSES; label++) {
    const at = label * (FEATURES + 1)
    let sum = parameters[at + FEATURES]!
    for (let i = 0; i < FEATURES; i++) sum += parameters[at + i]! * features[i]!
    out[label] = sum
  }
  return out
}

/** One step of stochastic gradient descent, in place. */
function trainStep(parameters: Float32Array, samples: readonly Sample[], rng: Rng): void {
  const gradient = new Float32Array(SIZE)
  for (let k = 0; k < BATCH; k++) {
    const sample = samples[rng.integer(samples.length)]!
    const scores = logits(parameters, sample)
    const top = Math.max(...scores)
    const weights = scores.map((score) => Math.exp(score - top))
    const total = weights.reduce((sum, value) => sum + value, 0)
    for (let label = 0; label < CLASSES; label++) {
      const error = (weights[label]! / total - (label === sample.label ? 1 : 0)) / BATCH
      const at = label * (FEATURES + 1)
      for (let i = 0; i < FEATURES; i++) gradient[at + i]! += error * sample.features[i]!
      gradient[at + FEATURES]! += error
    }
  }
  for (let i = 0; i < SIZE; i++) parameters[i]! -= LEARNING_RATE * gradient[i]!
}

function accuracyOf(parameters: Float32Array, samples: readonly Sample[]): number {
  const right = samples.filter((sample) => {
    const scores = logits(parameters, sample)
    return scores.indexOf(Math.max(...scores)) === sample.label
  })
  return right.length / samples.length
}

interface Node {
  readonly config: ExchangeConfig
  readonly parameters: Float32Array
  readonly samples: readonly Sample[]
  state: ExchangeState
}

/** Runs the exchange machines of two nodes to the end of one exchange; what each shows the other is the caller's. */
function exchange(
  nodes: readonly Node[],
  ends: readonly [number, number],
  step: number,
  shown: (node: number) => Float32Array
) {
  const views = new Map(ends.map((node) => [node, shown(node)]))
  const queue: { readonly to: number; readonly event: ExchangeEvent }[] = []
  const applied: (ExchangeEffect & { readonly type: 'apply' })[] = []
  const [from, to] = ends
  queue.push({ to: from, event: { type: 'initiate', link: 1, peer: nodes[to]!.config.self } })
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const node = nodes[next.to]!
    const other = next.to === from ? to : from
    const view = { parameters: views.get(next.to)!, phase: 'training' as const, step }
    const [state, effects] = stepExchange(node.config, node.state, next.event, view)
    node.state = state
    for (const effect of effects) {
      if (effect.type === 'apply') {
        addInto(effect.increment, node.parameters)
        applied.push(effect)
      }
      if (effect.type !== 'send') continue
      const { message, payload } = effect
      const event = { type: 'message', link: 1, peer: node.config.self, message } as const
      queue.push({ to: other, event: payload === undefined ? event : { ...event, payload } })
    }
  }
  return applied
}

function createNodes(
  { peers, dirichlet, clip, codec = 'int8', seed }: ExperimentInit,
  centres: readonly Float32Array[]
) {
  return Array.from({ length: peers }, (_, i): Node => {
    const rng = seededRng('attack-experiment', seed, 'peer', i)
    const shares = labelShares(dirichlet, rng)
    return {
      samples: Array.from({ length: SAMPLES_PER_PEER }, () => drawSample(centres, drawLabel(shares, rng), rng)),
      parameters: new Float32Array(SIZE),
      state: initialExchangeState(),
      config: {
        self: `peer-${i}`,
        federation: '0'.repeat(64),
        schema: { hash: '0'.repeat(64), size: SIZE },
        reference: new Float32Array(SIZE),
        codec: codecByName(codec),
        gamma: defaultGamma(codec),
        weight: SAMPLES_PER_PEER,
        incarnation: seed,
        localSteps: LOCAL_STEPS,
        ...(clip === undefined ? {} : { clip })
      }
    }
  })
}

/**
 * Peers that train and mix in random pairs, the first `attackers` of them liars in every exchange with an honest peer. A
 * liar trains as well as anybody, so that without an attack it is one more peer.
 */
export function attackExperiment(init: ExperimentInit): ExperimentResult {
  try {
    return runExperiment(init)
  } catch (error) {
    // Parameters beyond what a codec can send: nobody has learned anything that could be measured.
    if (isPeertuneError(error) && error.code.startsWith('codec/'))
      return { accuracy: 1 / CLASSES, worst: 1 / CLASSES, clipRate: 0 }
    throw error
  }
}

function runExperiment(init: ExperimentInit): ExperimentResult {
  const { peers, attackers, attack, seed } = init
  const rng = seededRng('attack-experiment', seed)
  const centres = Array.from({ length: CLASSES }, () =>
    Float32Array.from({ length: FEATURES }, () => CENTRE_SCALE * normal(rng))
  )
  const test = Array.from({ length: TEST_SAMPLES }, (_, i) => drawSample(centres, i % CLASSES, rng))
  const nodes = createNodes(init, centres)
  const honest = nodes.slice(attackers)
  const tally = { clipped: 0, exchanges: 0 }

  const shownTo = (victim: number) => (node: number) => {
    const { parameters, config } = nodes[node]!
    if (attack === undefined || node >= attackers) return parameters
    const vectors = honest.map((one) => one.parameters)
    const scene = { own: parameters, start: config.reference, honest: vectors, liars: attackers, rng }
    return attack({ ...scene, victim: nodes[victim]!.parameters })
  }

  for (let round = 0; round < ROUNDS + SETTLE_ROUNDS; round++) {
    if (round < ROUNDS)
      for (const { parameters, samples } of nodes)
        for (let step = 0; step < LOCAL_STEPS; step++) trainStep(parameters, samples, rng)
    const order = rng.shuffle(nodes.map((_, i) => i))
    for (let i = 0; i + 1 < peers; i += 2) {
      const [a, b] = [order[i]!, order[i + 1]!]
      const made = exchange(nodes, [a, b], Math.min(round + 1, ROUNDS) * LOCAL_STEPS, shownTo(Math.max(a, b)))
      if (a < attackers || b < attackers) continue
      tally.exchanges++
      if (made.some(({ observed }) => observed !== undefined && observed.scale < 1)) tally.clipped++
    }
  }
  const accuracies = honest.map(({ parameters }) => accuracyOf(parameters, test))
  return {
    accuracy: accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length,
    worst: Math.min(...accuracies),
    clipRate: tally.clipped / Math.max(1, tally.exchanges)
  }
}
