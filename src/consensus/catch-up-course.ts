import type { Phase } from '../codec/messages.js'
import {
  CATCH_UP_QUORUM,
  type CatchUpReason,
  type CatchUpScene,
  catchUpReason,
  GATHER_MS,
  isBehind
} from './catch-up.js'
import type { RoundsState } from './rounds.js'

/** When a peer looks at others' states, and when it has seen enough: what a driver asks, and nothing of how it asks. Pure. */
export interface CatchUpCourse {
  /** When the last life ended; absent at the first. */
  readonly savedAtMs: number | undefined
  readonly triedAtMs: number
  /**
   * A look that is to be, whoever exchanges with us meanwhile: one that was asked first would otherwise stay far behind, and
   * what one partner says is not what several say. Of a newcomer until it knows that it is not behind, or no longer.
   */
  readonly pending: CatchUpReason | undefined
  /** Since when. */
  readonly pendingSinceMs: number
}

/** Milliseconds before a newcomer that is behind and has found too few peers looks for more. */
export const GATHER_RETRY_MS = 1_000

export const catchUpCourse = (
  startedAtMs: number,
  { savedAtMs, late = savedAtMs === undefined }: { readonly savedAtMs?: number; readonly late?: boolean } = {}
): CatchUpCourse => ({
  savedAtMs,
  triedAtMs: Number.NEGATIVE_INFINITY,
  pending: late ? 'newcomer' : undefined,
  pendingSinceMs: startedAtMs
})

export interface CourseScene extends Pick<CatchUpScene, 'localSteps' | 'oddOneOut'> {
  readonly nowMs: number
  /** Peers that could be asked now. */
  readonly others: number
  readonly rounds: Pick<RoundsState, 'step' | 'lastExchangeStep' | 'exchanges'> & { readonly phase: Phase }
  /** Times of the exchanges of this life. */
  readonly exchangedAtMs: readonly number[]
}

/**
 * Why it is time to look, if it is. One that has work of its own needs a majority to give it up for, and asks nobody where
 * there is none: of two peers that were both cut off each would go where the other was.
 */
export function dueCatchUp(course: CatchUpCourse, scene: CourseScene): CatchUpReason | undefined {
  const { rounds, others, nowMs, localSteps, oddOneOut } = scene
  const { step, lastExchangeStep, phase, exchanges } = rounds
  if (phase === 'done' || others === 0) return undefined
  if (course.pending === 'newcomer' || exchanges === 0) return course.pending
  if (others < CATCH_UP_QUORUM) return undefined
  if (course.pending !== undefined) return course.pending
  return catchUpReason({
    step,
    lastExchangeStep,
    localSteps,
    awayMs: nowMs - lastExchangeAtMs(course, scene),
    sinceCatchUpMs: nowMs - course.triedAtMs,
    othersKnown: true,
    oddOneOut
  })
}

/** Before the first exchange of a life: the end of the last one. */
const lastExchangeAtMs = ({ savedAtMs }: CatchUpCourse, { exchangedAtMs, nowMs }: CourseScene): number =>
  Math.max(...exchangedAtMs, savedAtMs ?? (exchangedAtMs.length === 0 ? nowMs : Number.NEGATIVE_INFINITY))

/** Before an exchange is noted: who was away and is called first has still to look. */
export function exchanged(course: CatchUpCourse, scene: CourseScene): CatchUpCourse {
  if (course.pending !== undefined || dueCatchUp(course, scene) !== 'away') return course
  return { ...course, pending: 'away', pendingSinceMs: scene.nowMs }
}

export const looked = (course: CatchUpCourse, nowMs: number): CatchUpCourse => ({ ...course, triedAtMs: nowMs })

/** After a look at states: who has moved is where the others are, and who has found too few for long looks no longer. */
export const settled = (course: CatchUpCourse, outcome: 'moved' | 'stayed', nowMs: number): CatchUpCourse =>
  outcome === 'moved' || isLongEnough(course, nowMs) ? { ...course, pending: undefined } : course

const isLongEnough = ({ pendingSinceMs }: CatchUpCourse, nowMs: number): boolean => nowMs - pendingSinceMs >= GATHER_MS

export interface PlacesHeard {
  readonly nowMs: number
  readonly step: number
  readonly localSteps: number
  /** Peers asked how far they are, and the steps of those that have answered. */
  readonly asked: number
  readonly steps: readonly number[]
}

/** What a newcomer does once it knows how far others are: goes on as it is, waits for more of them, or asks for their states. */
export function placesHeard(
  course: CatchUpCourse,
  { nowMs, asked, steps, ...own }: PlacesHeard
): readonly [CatchUpCourse, 'stay' | 'gather' | 'ask'] {
  if (!isBehind(own, steps)) return [{ ...course, pending: undefined }, 'stay']
  return [course, asked >= CATCH_UP_QUORUM || isLongEnough(course, nowMs) ? 'ask' : 'gather']
}

/** Between two states there is no majority: three must answer. A newcomer has nothing to lose and goes by fewer, all of them. */
export const enoughStates = (reason: CatchUpReason, asked: number, states: number): boolean =>
  states > 0 && states >= (reason === 'newcomer' ? Math.min(CATCH_UP_QUORUM, asked) : CATCH_UP_QUORUM)
