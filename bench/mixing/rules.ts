import { type Rng, seededRng } from '../../src/base/rng.js'
import { beginTracking, mixVectors, trackingRound } from '../../src/sim/study/gradient-tracking.js'
import { metropolisHastings, type MixingMatrix } from '../../src/sim/study/mixing-matrix.js'
import { complete, exponential, type Overlay, ring } from '../../src/consensus/partners/overlay.js'
import { type OuterState, outerStep } from '../../src/consensus/rules/outer-momentum.js'
import { quasiGlobalMomentum } from '../../src/train/optimiser/quasi-global.js'
import { normal } from './attack-tasks.js'

const PEERS = 16
const SIZE = 20
const ROUNDS = 300
const RATE = 0.02
const DECAY = 0.9
const NOISE = 0.2
/** Seeds averaged over. */
const SEEDS = 5

/** f_i(x) = 1/2 sum_k a_ik (x_k - c_ik)^2 with its own curvatures and centre: what all want together lies elsewhere. */
function quadratics(rng: Rng) {
  const centres = Array.from({ length: PEERS }, () => Float64Array.from({ length: SIZE }, () => 3 + 3 * normal(rng)))
  const curvatures = centres.map((centre) => centre.map(() => 0.2 + 1.6 * rng.uniform()))
  const optimum = Float64Array.from({ length: SIZE }, (_, k) => {
    const total = curvatures.reduce((sum, a) => sum + a[k]!, 0)
    return curvatures.reduce((sum, a, i) => sum + a[k]! * centres[i]![k]!, 0) / total
  })
  const gradient = (peer: number, x: Float64Array): Float64Array =>
    x.map((value, k) => curvatures[peer]![k]! * (value - centres[peer]![k]!) + NOISE * normal(rng))
  return { gradient, optimum }
}

type Problem = ReturnType<typeof quadratics>
type Vectors = readonly Float64Array[]
interface Scene {
  readonly problem: Problem
  readonly matrix: MixingMatrix
  readonly rng: Rng
}
/** Where everybody is after ROUNDS rounds. */
type Method = (scene: Scene) => Vectors

const zeros = (): Float64Array[] => Array.from({ length: PEERS }, () => new Float64Array(SIZE))

const descend: Method = ({ problem, matrix }) => {
  let x: Vectors = zeros()
  for (let t = 0; t < ROUNDS; t++)
    x = mixVectors(
      matrix,
      x.map((own, i) => {
        const g = problem.gradient(i, own)
        return own.map((value, k) => value - RATE * g[k]!)
      })
    )
  return x
}

/** Heavy ball on each peer's own gradients. */
const localMomentum: Method = ({ problem, matrix }) => {
  let x: Vectors = zeros()
  let m: Vectors = zeros()
  for (let t = 0; t < ROUNDS; t++) {
    const g = x.map((own, i) => problem.gradient(i, own))
    m = m.map((own, i) => own.map((value, k) => DECAY * value + g[i]![k]!))
    x = mixVectors(
      matrix,
      x.map((own, i) => own.map((value, k) => value - RATE * m[i]![k]!))
    )
  }
  return x
}

const quasiGlobal: Method = ({ problem, matrix }) => {
  let x: Vectors = zeros()
  let m: Vectors = zeros()
  for (let t = 0; t < ROUNDS; t++) {
    const before = x
    const g = x.map((own, i) => problem.gradient(i, own))
    x = mixVectors(
      matrix,
      before.map((own, i) => own.map((value, k) => value - RATE * (DECAY * m[i]![k]! + g[i]![k]!)))
    )
    m = m.map((own, i) => quasiGlobalMomentum(own, { before: before[i]!, after: x[i]!, rate: RATE }, { decay: DECAY }))
  }
  return x
}

const tracking: Method = ({ problem, matrix }) => {
  let states = beginTracking(zeros(), problem.gradient)
  const descent = { gradientOf: problem.gradient, rate: RATE }
  for (let t = 0; t < ROUNDS; t++) states = trackingRound(matrix, states, descent)
  return states.map(({ x }) => x)
}

/** Random pairs, with NoLoCo's outer step or without: `decay` 0 and `step` 1 is the pair average. */
const pairs =
  (decay: number, step: number): Method =>
  ({ problem, rng }) => {
    const x = zeros().map((row) => Float32Array.from(row))
    const states: (OuterState | undefined)[] = x.map((row) => ({
      anchor: row.slice(),
      momentum: new Float32Array(SIZE)
    }))
    for (let t = 0; t < ROUNDS; t++) {
      x.forEach((own, i) => {
        problem.gradient(i, Float64Array.from(own)).forEach((value, k) => {
          own[k]! -= RATE * value
        })
      })
      const order = rng.shuffle(x.map((_, i) => i))
      for (let p = 0; p + 1 < PEERS; p += 2) {
        const ends = [order[p]!, order[p + 1]!] as const
        const before = ends.map((i) => x[i]!.slice())
        ends.forEach((i, side) => {
          const [own, partner] = [before[side]!, before[1 - side]!]
          const increment = own.map((value, k) => (partner[k]! - value) / 2)
          const outer = outerStep({ decay, step }, { own, increment, state: states[i] })
          states[i] = outer.next
          outer.increment.forEach((value, k) => {
            x[i]![k]! += value
          })
        })
      }
    }
    return x.map((row) => Float64Array.from(row))
  }

const METHODS: Readonly<Record<string, Method>> = {
  'gossiped descent': descend,
  'local momentum': localMomentum,
  'quasi-global momentum': quasiGlobal,
  'gradient tracking': tracking
}
const PAIR_METHODS: Readonly<Record<string, Method>> = {
  'pair average': pairs(0, 1),
  'NoLoCo 0.5, 0.7': pairs(0.5, 0.7)
}

const OVERLAYS: Readonly<Record<string, (size: number) => Overlay>> = { ring, exponential, 'random pairs': complete }

/** Root mean square distances: of the peers' mean from the optimum, and of the peers from their mean. */
function judge(x: Vectors, optimum: Float64Array) {
  const mean = optimum.map((_, k) => x.reduce((sum, own) => sum + own[k]!, 0) / PEERS)
  const from = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, k) => sum + (value - b[k]!) ** 2, 0) / SIZE
  return {
    bias: Math.sqrt(from(mean, optimum)),
    spread: Math.sqrt(x.reduce((sum, own) => sum + from(own, mean), 0) / PEERS)
  }
}

/**
 * `npm run bench -- rules [--json]`: sixteen peers with quadratics of their own, 300 rounds of one local step and one mixing
 * with Metropolis-Hastings weights (or one random pairing). How far their mean is from the common optimum, and they from it.
 */
export function run(): Promise<object> {
  const rows: object[] = []
  for (const [overlay, layOut] of Object.entries(OVERLAYS))
    for (const [method, run] of Object.entries(overlay === 'random pairs' ? PAIR_METHODS : METHODS)) {
      const results = Array.from({ length: SEEDS }, (_, seed) => {
        const rng = seededRng('rules', seed)
        const problem = quadratics(rng)
        return judge(run({ problem, rng, matrix: metropolisHastings(layOut(PEERS)) }), problem.optimum)
      })
      const meanOf = (of: (result: (typeof results)[number]) => number) =>
        results.reduce((sum, result) => sum + of(result), 0) / SEEDS
      const row = { overlay, method, bias: meanOf(({ bias }) => bias), spread: meanOf(({ spread }) => spread) }
      rows.push(row)
      console.log(
        `${overlay.padEnd(12)} ${method.padEnd(24)} mean off by ${row.bias.toFixed(4)}, peers apart ${row.spread.toFixed(4)}`
      )
    }
  return Promise.resolve({ peers: PEERS, rounds: ROUNDS, rate: RATE, rows })
}
