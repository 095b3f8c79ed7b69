import { seededRng } from '../src/base/rng.js'
import {
  countRounds,
  directedExponential,
  epidemicRound,
  metropolisHastings,
  type MixingMatrix,
  slowestMode
} from '../src/consensus/mixing-matrix.js'
import { exponential, type Overlay, randomRegular, ring, torus } from '../src/consensus/overlay.js'

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

/**
 * `npm run bench -- overlays [--json]`: rounds of gossip with Metropolis-Hastings weights until the consensus error is a
 * hundredth of the start's, by overlay and size, for the start that takes longest and for a random one.
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
    [16, 64].map((size) => ({ overlay, size, ...measure(size) }))
  )
  for (const { overlay, size, gap, slowest, random } of table)
    console.log(
      `${overlay}, ${size} peers: ${slowest ?? '-'} rounds from the slowest start, ${random.toFixed(0)} from a random one` +
        (gap === undefined ? '' : `, gap ${gap.toFixed(3)}`)
    )
  return { shrink: SHRINK, table }
}
