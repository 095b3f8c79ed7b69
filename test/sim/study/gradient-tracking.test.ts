import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { beginTracking, type Gradient, mixVectors, trackingRound } from '../../../src/sim/study/gradient-tracking.js'
import { metropolisHastings } from '../../../src/sim/study/mixing-matrix.js'
import { ring } from '../../../src/consensus/partners/overlay.js'

const PEERS = 8
const SIZE = 3
const rng = seededRng('tracking')
const draw = (scale: number) => Float64Array.from({ length: SIZE }, () => scale * (rng.uniform() - 0.5))
const centres = Array.from({ length: PEERS }, () => draw(10))
const curvatures = Array.from({ length: PEERS }, () => draw(1).map((value) => value + 1))
/** f_i(x) = 1/2 sum_k a_ik (x_k - c_ik)^2. */
const gradientOf: Gradient = (peer, x) => x.map((value, k) => curvatures[peer]![k]! * (value - centres[peer]![k]!))
/** Where the sum of the gradients is zero. */
const optimum = Float64Array.from({ length: SIZE }, (_, k) => {
  const total = curvatures.reduce((sum, a) => sum + a[k]!, 0)
  return curvatures.reduce((sum, a, i) => sum + a[k]! * centres[i]![k]!, 0) / total
})
const matrix = metropolisHastings(ring(PEERS))
const starts = centres.map(() => new Float64Array(SIZE))
const farthest = (xs: readonly Float64Array[]) =>
  Math.max(...xs.map((x) => Math.hypot(...x.map((value, k) => value - optimum[k]!))))

describe('gradient tracking', () => {
  it('brings every peer to the common optimum with a constant step, where gossiped gradient descent stays off', () => {
    let states = beginTracking(starts, gradientOf)
    let plain: readonly Float64Array[] = starts
    for (let round = 0; round < 600; round++) {
      states = trackingRound(matrix, states, { gradientOf, rate: 0.1 })
      plain = mixVectors(
        matrix,
        plain.map((x, i) => x.map((value, k) => value - 0.1 * gradientOf(i, x)[k]!))
      )
    }
    expect(farthest(states.map(({ x }) => x))).toBeLessThan(1e-9)
    expect(farthest(plain)).toBeGreaterThan(0.1)
  })

  it('keeps the mean of the trackers at the mean of the gradients', () => {
    let states = beginTracking(starts, gradientOf)
    for (let round = 0; round < 7; round++) {
      states = trackingRound(matrix, states, { gradientOf, rate: 0.1 })
      for (let k = 0; k < SIZE; k++) {
        const mean = (of: (state: (typeof states)[number]) => number) =>
          states.reduce((sum, state) => sum + of(state), 0) / PEERS
        expect(mean(({ tracker }) => tracker[k]!)).toBeCloseTo(
          mean(({ gradient }) => gradient[k]!),
          12
        )
      }
    }
  })
})
