import { lowerMedian } from '../median.js'
import type { DistanceMeasure } from '../rules/distance.js'
import { centralMean, meanOf } from '../rules/mixing-neighbourhood.js'

/** States asked for: with five, two of them may be lies. */
export const CATCH_UP_SOURCES = 5
/** States below which the middle of them says nothing: between two there is no majority. */
export const CATCH_UP_QUORUM = 3
/** Multiples of `localSteps` without an exchange, and milliseconds, after which others have gone on without us. */
const AWAY_ROUNDS = 5
export const AWAY_AT_LEAST_MS = 60_000
/** Milliseconds without an exchange after which they have, too, however slow we are: ten minutes. */
export const AWAY_MS = 600_000
/** Rounds that others must be ahead of one that has made no exchange before: a common start is no lag. */
const NEWCOMER_ROUNDS = 2
/** Milliseconds a newcomer that is behind waits for a quorum before it goes by the one or two peers it has found. */
export const GATHER_MS = 10_000
/** Milliseconds between two looks at others' states: they are asked for reading, not for keeping up with everybody. */
export const CATCH_UP_PAUSE_MS = 60_000

export type CatchUpReason = 'newcomer' | 'away' | 'odd-one-out'

/** Where we are and what is known of the others. */
export interface CatchUpScene {
  readonly step: number
  readonly lastExchangeStep: number
  readonly localSteps: number
  /** Milliseconds since the last exchange, earlier lives included. */
  readonly awayMs: number
  /** Milliseconds since we last caught up; Infinity before the first time. */
  readonly sinceCatchUpMs: number
  readonly othersKnown: boolean
  /** As by `isOddOneOut`. */
  readonly oddOneOut: boolean
}

/** Are peers that took so many steps so far ahead of one before its first exchange that it should start where they are? */
export const isBehind = (
  { step, localSteps }: Pick<CatchUpScene, 'step' | 'localSteps'>,
  othersSteps: readonly number[]
): boolean => lowerMedian(othersSteps) >= step + NEWCOMER_ROUNDS * localSteps

/**
 * Why one that has exchanged before should look at several peers' states before it mixes with any, if it should. A peer that
 * joins late, or comes back, is farther from the others than they follow anybody (radius.ts), and would approach them by a
 * step of their radius for each exchange; and a single partner may be a liar.
 */
export function catchUpReason(scene: CatchUpScene): CatchUpReason | undefined {
  const { step, lastExchangeStep, localSteps, awayMs, othersKnown, oddOneOut } = scene
  if (!othersKnown || scene.sinceCatchUpMs < CATCH_UP_PAUSE_MS) return undefined
  const missed = step - lastExchangeStep >= AWAY_ROUNDS * localSteps && awayMs >= AWAY_AT_LEAST_MS
  if (missed || awayMs >= AWAY_MS) return 'away'
  return oddOneOut ? 'odd-one-out' : undefined
}

export interface CaughtUp {
  /** Where we go, float32[n]. */
  readonly target: Float32Array
  /** From our own parameters to the others' middle. */
  readonly distance: number
  /** Share of that way that is kept as ours. */
  readonly kept: number
}

/**
 * The middle of several peers' states, found by `measure`: the mean of a majority that stands together (`centralMean`), so
 * that up to (n - 1) / 2 lies among n states are left out. Of one or two states their mean, for want of anything better.
 */
export function robustMiddle(states: readonly Float32Array[], measure: DistanceMeasure): Float32Array {
  if (states.length < CATCH_UP_QUORUM) return meanOf(states)
  return centralMean(states, Math.floor((states.length - 1) / 2), measure)
}

/** Where we are and where several others are, float32[n] each. */
export interface Positions {
  readonly own: Float32Array
  readonly states: readonly Float32Array[]
}

/**
 * Where a peer goes that has fallen behind. A newcomer: to the middle of the states. Who comes back with work of its own
 * keeps as much of it as lies within the others' usual distance from that middle, since they would follow it no farther.
 * Not an exchange: nobody else moves, so the network's mean does.
 */
export function caughtUp(reason: CatchUpReason, { own, states }: Positions, measure: DistanceMeasure): CaughtUp {
  const middle = robustMiddle(states, measure)
  const { distance } = measure(own, middle)
  const usual = lowerMedian(states.map((state) => measure(state, middle).distance))
  const kept = reason === 'newcomer' ? 0 : distance === 0 ? 1 : Math.min(1, Math.max(0, usual) / distance)
  return { target: middle.map((value, i) => value + kept * (own[i]! - value)), distance, kept }
}
