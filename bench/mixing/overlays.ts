import { seededRng } from '../../src/base/rng.js'
import {
  countRounds,
  directedExponential,
  epidemicRound,
  metropolisHastings,
  type MixingMatrix,
  slowestMode
} from '../../src/sim/study/mixing-matrix.js'
import {
  createOverlay,
  exponential,
  type Overlay,
  randomRegular,
  ring,
  torus
} from '../../src/consensus/partners/overlay.js'
import { runScenario } from '../../src/sim/run.js'
import { readScenario } from '../../src/sim/world/scenario.js'

const SHRINK = 100
const LIMIT = 5_000
/** Random overlays and random starts are drawn this often; the median or mean of them is shown. */
const DRAWS = 31

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

/** Rounds of the slowest start, and of a random one. */
function rounds(matrix: MixingMatrix, seed: number) {
  const { factor, start } = slowestMode(matrix)
  const rng = seededRng('overlays', seed)
  const random = Float64Array.from({ length: matrix.length }, () => rng.uniform() - 0.5)
  const count = (x: Float64Array) => countRounds(() => matrix, x, { shrink: SHRINK, limit: LIMIT })
  return { gap: 1 - factor, slowest: count(start), random: count(random) }
}

function drawn(size: number, degree: number) {
  const all = Array.from({ length: DRAWS }, (_, seed) =>
    rounds(metropolisHastings(randomRegular(size, degree, seededRng('draw', seed))), seed)
  )
  return {
    gap: median(all.map(({ gap }) => gap)),
    slowest: median(all.map(({ slowest }) => slowest)),
    random: median(all.map(({ random }) => random))
  }
}

function epidemic(size: number, fanOut: number) {
  const all = Array.from({ length: DRAWS }, (_, seed) => {
    const rng = seededRng('epidemic', size, fanOut, seed)
    const start = Float64Array.from({ length: size }, () => rng.uniform() - 0.5)
    return countRounds(() => epidemicRound(size, fanOut, rng), start, { shrink: SHRINK, limit: LIMIT })
  })
  return { random: all.reduce((sum, count) => sum + count, 0) / all.length }
}

/** Rounds from the slowest start by the table that the design was made from, for 16 and 64 peers; epidemic: from a random one. */
const DESIGN: Readonly<Record<string, readonly [number, number]>> = {
  ring: [89, 1433],
  torus: [10, 37],
  'random regular, degree 4': [17, 26],
  'random regular, degree 6': [8, 16],
  exponential: [7, 12],
  'directed exponential': [10, 14],
  'epidemic, 1 other': [19, 20],
  'epidemic, 2 others': [10, 11],
  'epidemic, log2 n others': [6, 5]
}

const LIVE = ['ring', 'torus', 'random-regular', 'exponential', 'complete'] as const
/** Virtual milliseconds: enough for the ring of 16, which takes longest of these. */
const LIVE_MS = 120_000

/**
 * The same as pair exchanges of the daemon's machines along the edges in turn, on the simulator's clock: a round is one exchange for
 * every edge of a peer. Overlay neighbours are those of the simulator.
 */
async function live(kind: (typeof LIVE)[number], size: number) {
  const { load, exchangesToShrink, scenario } = await runScenario(
    readScenario({
      seed: `overlay ${kind} ${size}`,
      peers: size,
      durationMs: LIVE_MS,
      measureMs: 500,
      overlay: { kind, degree: 6 },
      mixing: { codec: 'float32', localSteps: 2, step: 'metropolis' },
      workload: { kind: 'none', size: 8, samples: [100, 100] },
      peer: { stepMs: [100, 100] }
    })
  )
  const overlay = createOverlay(kind, { size, degree: 6, rng: seededRng(scenario.seed, 'overlay') })
  const degree = overlay.reduce((sum, row) => sum + row.length, 0) / size
  return {
    overlay: kind,
    size,
    rounds: exchangesToShrink === undefined ? undefined : exchangesToShrink / degree,
    loadRatio: load.max / load.mean
  }
}

/**
 * `npm run bench -- overlays [--json]`: rounds of gossip with Metropolis-Hastings weights until the consensus error is a
 * hundredth of the start's, by overlay and size, for the start that takes longest and for a random one, beside the
 * design's table; then live exchanges along the edges, and how evenly they are spread.
 */
export async function run(): Promise<object> {
  const fixed = (overlay: (size: number) => Overlay) => (size: number) => rounds(metropolisHastings(overlay(size)), 0)
  const kinds: Readonly<Record<string, (size: number) => { slowest?: number; random: number; gap?: number }>> = {
    ring: fixed(ring),
    torus: fixed(torus),
    'random regular, degree 4': (size) => drawn(size, 4),
    'random regular, degree 6': (size) => drawn(size, 6),
    exponential: fixed(exponential),
    'directed exponential': (size) => rounds(directedExponential(size), 0),
    'epidemic, 1 other': (size) => epidemic(size, 1),
    'epidemic, 2 others': (size) => epidemic(size, 2),
    'epidemic, log2 n others': (size) => epidemic(size, Math.log2(size))
  }
  const table = Object.entries(kinds).flatMap(([overlay, measure]) =>
    [16, 64].map((size, column) => {
      const measured = measure(size)
      const design = DESIGN[overlay]![column]!
      const ours = measured.slowest ?? measured.random
      return {
        overlay,
        size,
        ...measured,
        design,
        ratio: ours / design,
        within20percent: Math.abs(ours / design - 1) <= 0.2
      }
    })
  )
  console.log('overlay                      peers  slowest  random  design  ratio  within 20 %')
  for (const { overlay, size, slowest, random, design, ratio, within20percent } of table)
    console.log(
      `${overlay.padEnd(28)} ${String(size).padStart(5)}  ${String(slowest ?? '-').padStart(7)}  ${random.toFixed(0).padStart(6)}` +
        `  ${String(design).padStart(6)}  ${ratio.toFixed(2).padStart(5)}  ${within20percent ? 'yes' : 'no'}`
    )
  const exchanges = []
  for (const kind of LIVE) for (const size of [16, 64]) exchanges.push(await live(kind, size))
  for (const { overlay, size, rounds: taken, loadRatio } of exchanges)
    console.log(
      `live, ${overlay}, ${size} peers: ${taken?.toFixed(1) ?? 'not within the time'} rounds, busiest peer ${loadRatio.toFixed(2)} times the mean`
    )
  return { shrink: SHRINK, table, exchanges }
}
