import { isPeertuneError } from '../../src/base/errors.js'
import type { RobustSpec } from '../../src/base/mixing-rules.js'
import { type Rng, seededRng } from '../../src/base/rng.js'
import { payloadHeader } from '../../src/codec/wire/payload.js'
import { codecByName } from '../../src/codec/registry.js'
import type { Attack } from '../../src/sim/attack/attacks.js'
import { initialExchangeState, stepExchange } from '../../src/consensus/exchange/exchange.js'
import type {
  ExchangeConfig,
  ExchangeEffect,
  ExchangeEvent,
  ExchangeState
} from '../../src/consensus/exchange/types.js'
import { noteLoss } from '../../src/consensus/rules/robust-rule.js'
import { addInto } from '../../src/tensor/linear.js'
import {
  accuracyOf,
  ATTACK_TASKS,
  type AttackTask,
  type AttackTaskName,
  lossOf,
  normal,
  type Sample
} from './attack-tasks.js'

const SAMPLES_PER_PEER = 120
const TEST_SAMPLES = 1000
const ROUNDS = 60
const SETTLE_ROUNDS = 12
const LOCAL_STEPS = 5
const BATCH = 16
/** Examples on which a rule that compares losses compares them. */
const LOSS_SAMPLES = 40

/** How a liar differs from an honest peer; without any of these it does not. */
export interface AttackCase {
  /** What it claims to have. */
  readonly claims?: Attack
  /** What it trains on: label y becomes C - 1 - y. */
  readonly flipsLabels?: boolean
  /** Bytes in the place of its coded parameters, of the same length. */
  readonly payload?: (honest: Uint8Array) => Uint8Array
  /** Says for ever what it had after so many rounds. */
  readonly staleAfter?: number
  /** Training examples it says it has. */
  readonly examples?: number
  /** A new name for every exchange. */
  readonly manyNames?: boolean
}

/** What protects the honest, or does not. */
export interface Defence {
  readonly clip?: number
  readonly maxPull?: number
  readonly robust?: RobustSpec
}

export interface ExperimentInit extends Defence {
  readonly task?: AttackTaskName
  readonly peers: number
  readonly attackers: number
  /** Absent: the attackers behave. */
  readonly lie?: AttackCase
  /** Concentration of the label split; absent: every peer draws from all classes alike. */
  readonly dirichlet?: number
  readonly seed: string
}

export interface ExperimentResult {
  /** Mean over the honest peers, on data of all classes. */
  readonly accuracy: number
  /** Of the worst honest peer. */
  readonly worst: number
  /** Share of the exchanges between honest peers in which something was clipped. */
  readonly clipRate: number
  /** Exchanges with liars that were refused. */
  readonly refused: number
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

function labelShares(classes: number, concentration: number | undefined, rng: Rng): readonly number[] {
  if (concentration === undefined) return Array.from({ length: classes }, () => 1 / classes)
  const draws = Array.from({ length: classes }, () => gamma(concentration, rng) + 1e-12)
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

interface Node {
  config: ExchangeConfig
  readonly parameters: Float32Array
  readonly samples: readonly Sample[]
  state: ExchangeState
  /** What it says for ever, once it has begun to. */
  stale?: Float32Array
}

interface World {
  readonly init: ExperimentInit
  readonly task: AttackTask
  readonly nodes: readonly Node[]
  readonly rng: Rng
  readonly tally: { clipped: number; exchanges: number; refused: number }
  names: number
}

function createWorld(init: ExperimentInit): World {
  const { task: name = 'clouds', seed, peers, attackers } = init
  const task = ATTACK_TASKS[name](seed)
  const nodes = Array.from({ length: peers }, (_, i): Node => {
    const rng = seededRng('attack-experiment', seed, 'peer', i)
    const shares = labelShares(task.classes, init.dirichlet, rng)
    const flips = i < attackers && init.lie?.flipsLabels === true
    const samples = Array.from({ length: SAMPLES_PER_PEER }, () => {
      const sample = task.draw(drawLabel(shares, rng), rng)
      return flips ? { ...sample, label: task.classes - 1 - sample.label } : sample
    })
    return { samples, parameters: task.start.slice(), state: initialExchangeState(), config: configOf(init, task, i) }
  })
  const tally = { clipped: 0, exchanges: 0, refused: 0 }
  return { init, task, nodes, tally, rng: seededRng('attack-run', seed), names: 0 }
}

const configOf = (init: ExperimentInit, task: AttackTask, i: number): ExchangeConfig => ({
  self: `peer-${i}`,
  federation: '0'.repeat(64),
  schema: task.schema,
  reference: task.start,
  codec: codecByName('int8'),
  gamma: 1,
  weight: (i < init.attackers ? init.lie?.examples : undefined) ?? SAMPLES_PER_PEER,
  incarnation: init.seed,
  localSteps: LOCAL_STEPS,
  measure: task.measure,
  ...(init.clip === undefined ? {} : { clip: init.clip }),
  ...(init.maxPull === undefined ? {} : { maxPull: init.maxPull }),
  ...(init.robust === undefined ? {} : { robust: init.robust })
})

/** What a node shows its partner of itself. */
function shown({ init, task, nodes, rng }: World, node: number, partner: number): Float32Array {
  const { parameters, stale } = nodes[node]!
  if (node >= init.attackers || init.lie === undefined) return parameters
  const own = stale ?? parameters
  const honest = nodes.slice(init.attackers).map((one) => one.parameters)
  const scene = { own, start: task.start, honest, liars: init.attackers, rng, victim: nodes[partner]!.parameters }
  return init.lie.claims?.(scene) ?? own
}

type Sent = ExchangeEffect & { readonly type: 'send' }

/** What becomes of a message of a liar that lies in bytes: the header fits, so that only what is in it can give it away. */
function tampered({ init }: World, node: number, { message, payload }: Sent): Pick<Sent, 'message' | 'payload'> {
  const lie = node < init.attackers ? init.lie?.payload : undefined
  if (lie === undefined || payload === undefined) return payload === undefined ? { message } : { message, payload }
  const bytes = lie(payload)
  if (message.type !== 'accept' && message.type !== 'commit') return { message }
  return { message: { ...message, payload: payloadHeader(bytes) }, payload: bytes }
}

/** Runs the exchange machines of two nodes to the end of one exchange. */
function exchange(world: World, [from, to]: readonly [number, number], step: number) {
  const { nodes, init } = world
  for (const node of [from, to])
    if (node < init.attackers && init.lie?.manyNames) {
      nodes[node]!.config = { ...nodes[node]!.config, self: `sybil-${world.names++}` }
      nodes[node]!.state = initialExchangeState()
    }
  const views = new Map([
    [from, shown(world, from, to)],
    [to, shown(world, to, from)]
  ])
  const applied: (ExchangeEffect & { readonly type: 'apply' })[] = []
  const queue: { readonly to: number; readonly event: ExchangeEvent }[] = [
    { to: from, event: { type: 'initiate', link: 1, peer: nodes[to]!.config.self } }
  ]
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const node = nodes[next.to]!
    const other = next.to === from ? to : from
    const local = {
      parameters: views.get(next.to)!,
      phase: 'training',
      step,
      progress: step / (ROUNDS * LOCAL_STEPS)
    } as const
    const [state, effects] = stepExchange({ config: node.config, local }, node.state, next.event)
    node.state = state
    for (const effect of effects) {
      if (effect.type === 'apply') {
        addInto(effect.increment, node.parameters)
        applied.push(effect)
      }
      if (effect.type === 'penalise' && other < init.attackers) world.tally.refused++
      if (effect.type !== 'send') continue
      const { message, payload } = tampered(world, next.to, effect)
      const event = { type: 'message', link: 1, peer: node.config.self, message } as const
      queue.push({ to: other, event: payload === undefined ? event : { ...event, payload } })
    }
  }
  for (const node of [from, to]) measureLosses(world, node)
  return applied
}

/** As the daemon does it after an exchange. */
function measureLosses({ init, task, nodes }: World, index: number): void {
  if (init.robust?.rule !== 'ubar') return
  const node = nodes[index]!
  const batch = node.samples.slice(0, LOSS_SAMPLES)
  const latest = [...node.state.recent].at(-1)
  if (latest === undefined || latest[1].loss !== undefined) return
  const [peer, { vector }] = latest
  const recent = noteLoss(node.state.recent, peer, { vector, loss: lossOf(task, vector, batch) })
  const losses = { own: lossOf(task, node.parameters, batch), start: lossOf(task, task.start, batch) }
  node.state = { ...node.state, recent, losses }
}

/**
 * Peers that train and mix in random pairs, the first `attackers` of them liars in every exchange. A liar trains as well as
 * anybody, so that without a lie it is one more peer.
 */
export function attackExperiment(init: ExperimentInit): ExperimentResult {
  const world = createWorld(init)
  try {
    runExperiment(world)
  } catch (error) {
    // Parameters beyond what a codec can send: nobody has learned anything that could be measured.
    if (!(isPeertuneError(error) && error.code.startsWith('codec/'))) throw error
    const chance = 1 / world.task.classes
    return { accuracy: chance, worst: chance, clipRate: 0, refused: world.tally.refused }
  }
  return judged(world)
}

function runExperiment(world: World): void {
  const { init, nodes, rng, tally } = world
  const { attackers, peers, lie } = init
  for (let round = 0; round < ROUNDS + SETTLE_ROUNDS; round++) {
    if (round < ROUNDS) trainAll(world)
    if (round === lie?.staleAfter) for (const node of nodes.slice(0, attackers)) node.stale = node.parameters.slice()
    const order = rng.shuffle(nodes.map((_, i) => i))
    for (let i = 0; i + 1 < peers; i += 2) {
      const [a, b] = [order[i]!, order[i + 1]!]
      const made = exchange(world, [a, b], Math.min(round + 1, ROUNDS) * LOCAL_STEPS)
      if (a < attackers || b < attackers) continue
      tally.exchanges++
      if (made.some(({ observed }) => observed !== undefined && observed.scale < 1)) tally.clipped++
    }
  }
}

function trainAll({ task, nodes, rng }: World): void {
  for (const { parameters, samples } of nodes)
    for (let step = 0; step < LOCAL_STEPS; step++)
      task.step(
        parameters,
        Array.from({ length: BATCH }, () => samples[rng.integer(samples.length)]!)
      )
}

function judged({ init, task, nodes, tally }: World): ExperimentResult {
  const rng = seededRng('attack-test', init.seed)
  const test = Array.from({ length: TEST_SAMPLES }, (_, i) => task.draw(i % task.classes, rng))
  const accuracies = nodes.slice(init.attackers).map(({ parameters }) => accuracyOf(task, parameters, test))
  return {
    accuracy: accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length,
    worst: Math.min(...accuracies),
    clipRate: tally.clipped / Math.max(1, tally.exchanges),
    refused: tally.refused
  }
}
