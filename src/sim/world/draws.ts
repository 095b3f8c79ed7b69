import type { Rng } from '../../base/rng.js'

/**
 * Close to a standard normal: twelve uniforms (Irwin-Hall). Sums only, so the same bits on every machine, which a
 * logarithm would not give.
 */
export function normal(rng: Rng): number {
  let sum = -6
  for (let i = 0; i < 12; i++) sum += rng.uniform()
  return sum
}

/** Uniform between the two. */
export const drawn = (rng: Rng, [low, high]: readonly [number, number]): number => low + (high - low) * rng.uniform()

/** True with this probability. Nothing is drawn for what cannot happen, so that it disturbs no other draw. */
export const happens = (rng: Rng, probability: number): boolean => probability > 0 && rng.uniform() < probability
