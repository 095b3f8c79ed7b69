import type { Rng } from '../../base/rng.js'
import type { FactorPair } from '../../tensor/factors.js'
import { weightedMean } from '../../tensor/linear.js'

/**
 * What a liar sends instead of its parameters, for the simulator and the benches. Pure. It knows what the worst liar knows:
 * its victim's vector and those of all honest peers. Formulas as in the code of SCClip (He, Karimireddy & Jaggi 2022,
 * https://arxiv.org/abs/2202.01545) unless another source is named. Label flip is an attack on data and has no place here.
 */
export interface AttackScene {
  /** What the liar would send if it were honest, float32[n]. */
  readonly own: Float32Array
  /** The common start. */
  readonly start: Float32Array
  /** The peer that is lied to. */
  readonly victim: Float32Array
  /** Vectors of the honest peers, the victim's among them. */
  readonly honest: readonly Float32Array[]
  /** Liars in all. */
  readonly liars: number
  readonly rng: Rng
}

export type Attack = (scene: AttackScene) => Float32Array

const meanOf = (vectors: readonly Float32Array[]): Float64Array =>
  weightedMean(
    vectors,
    vectors.map(() => 1)
  )

/** The start minus `factor` times the way an honest peer would have come. */
export const signFlip =
  (factor = 1): Attack =>
  ({ own, start }) =>
    start.map((value, i) => value - factor * (own[i]! - value))

/** Inner-product manipulation (Xie et al. 2020, https://arxiv.org/abs/1903.03936): -epsilon times the honest way. */
export const innerProduct =
  (epsilon = 0.1): Attack =>
  ({ honest, start }) => {
    const mean = meanOf(honest)
    return start.map((value, i) => value - epsilon * (mean[i]! - value))
  }

/** Standard normal quantile by Acklam's rational approximation, relative error below 1.2e-9; for p in (0, 1). */
export function normalQuantile(p: number): number {
  const central = (r: number): number => {
    const s = r * r
    return (
      (((((-3.969683028665376e1 * s + 2.209460984245205e2) * s - 2.759285104469687e2) * s + 1.38357751867269e2) * s -
        3.066479806614716e1) *
        s +
        2.506628277459239) *
      (r /
        (((((-5.447609879822406e1 * s + 1.615858368580409e2) * s - 1.556989798598866e2) * s + 6.680131188771972e1) * s -
          1.328068155288572e1) *
          s +
          1))
    )
  }
  const tail = (q: number): number =>
    (((((-7.784894002430293e-3 * q - 3.223964580411365e-1) * q - 2.400758277161838) * q - 2.549732539343734) * q +
      4.374664141464968) *
      q +
      2.938163982698783) /
    ((((7.784695709041462e-3 * q + 3.224671290700398e-1) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1)
  if (p < 0.02425) return tail(Math.sqrt(-2 * Math.log(p)))
  if (p > 1 - 0.02425) return -tail(Math.sqrt(-2 * Math.log(1 - p)))
  return central(p - 0.5)
}

/**
 * How many deviations ALIE goes: as far as the `needed` honest peers that make up a majority with the liars still go
 * themselves. n peers, m of them liars; s = floor(n / 2 + 1) - m; z = Phi^-1((n - m - s) / (n - m)).
 */
export function alieDeviations(peers: number, liars: number): number {
  const needed = Math.floor(peers / 2 + 1) - liars
  return normalQuantile(Math.min(1 - 1e-9, Math.max(1e-9, (peers - liars - needed) / (peers - liars))))
}

/** A little is enough (Baruch et al. 2019, https://arxiv.org/abs/1902.06156): mean - z * deviation, by coordinate. */
export const alie =
  (deviations?: number): Attack =>
  ({ honest, liars }) => {
    const z = deviations ?? alieDeviations(honest.length + liars, liars)
    const mean = meanOf(honest)
    return Float32Array.from(mean, (value, i) => {
      const variance = honest.reduce((sum, vector) => sum + (vector[i]! - value) ** 2, 0) / honest.length
      return value - z * Math.sqrt(variance)
    })
  }

/**
 * Dissensus: what pulls the victim as far away from the others as the honest pull it towards them, times epsilon:
 * x_v - epsilon * sum_j w (x_j - x_v) / (liars * w), with equal weights.
 */
export const dissensus =
  (epsilon = 1.5): Attack =>
  ({ victim, honest, liars }) => {
    const share = (epsilon * honest.length) / Math.max(1, liars)
    const mean = meanOf(honest)
    return victim.map((value, i) => value - share * (mean[i]! - value))
  }

/** Two uniform numbers to one normal one (Box & Muller 1958). */
const normal = (rng: Rng): number => Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform())

/** The own vector with noise of the given standard deviation. */
export const gaussianNoise =
  (deviation = 1): Attack =>
  ({ own, rng }) =>
    own.map((value) => value + deviation * normal(rng))

/** Always the same honest peer's vector, so that it counts many times (Karimireddy et al. 2022, arXiv 2006.09365). */
export const mimic =
  (of = 0): Attack =>
  ({ honest, own }) =>
    honest[of % Math.max(1, honest.length)] ?? own

/** Says something else to everybody: its own vector, each element off by up to `most`, drawn anew each time. */
export const equivocation =
  (most = 1): Attack =>
  ({ own, rng }) =>
    own.map((value) => value + most * (2 * rng.uniform() - 1))

/**
 * Gradient assembly (https://arxiv.org/abs/2601.00566): each factor stays at the honest peers' mean distance from the start,
 * but all its slots point the same way, so that the product is as large as it can be.
 */
export const gradientAssembly =
  (pairs: readonly FactorPair[]): Attack =>
  ({ start, honest, own }) => {
    const lie = own.slice()
    for (const { a, b } of pairs)
      for (const { offset, size } of [a, b]) {
        const reach =
          honest.reduce((sum, vector) => {
            let square = 0
            for (let i = offset; i < offset + size; i++) square += (vector[i]! - start[i]!) ** 2
            return sum + Math.sqrt(square)
          }, 0) / honest.length
        for (let i = offset; i < offset + size; i++) lie[i] = start[i]! + reach / Math.sqrt(size)
      }
    return lie
  }

/** By name, with the strengths of their papers; numbered ones have another, 0.6 that which hurts the default most. */
export const ATTACKS = {
  'sign-flip': signFlip(),
  'sign-flip-10': signFlip(10),
  ipm: innerProduct(),
  alie: alie(),
  'alie-10': alie(10),
  dissensus: dissensus(),
  'dissensus-0.6': dissensus(0.6),
  gaussian: gaussianNoise(),
  mimic: mimic(),
  equivocation: equivocation()
} as const satisfies Readonly<Record<string, Attack>>
