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
  readonly startedAtMs: number
  readonly triedAtMs: number
  /** When the last life ended; absent at the first. */
  readonly savedAtMs: number | undefined
  /** False while it looks whether others began before it: until it knows that it is not behind, or no longer. */
  readonly settledIn: boolean
}

/** Milliseconds before a newcomer that is behind and has found too few peers looks for more. */
export const GATHER_RETRY_MS = 1_000

export const catchUpCourse = (
  startedAtMs: number,
  { savedAtMs, settledIn = savedAtMs !== undefined }: { readonly savedAtMs?: number; readonly settledIn?: boolean } = {}
): CatchUpCourse => ({ startedAtMs, triedAtMs: Number.NEGATIVE_INFINITY, savedAtMs, settledIn })

export interface CourseScene extends Pick<CatchUpScene, 'localSteps' | 'othersKnown' | 'oddOneOut'> {
  readonly nowMs: number
  readonly rounds: Pick<RoundsState, 'step' | 'lastExchangeStep' | 'exchanges'> & { readonly phase: Phase }
  /** Times of the exchanges of this life. */
  readonly exchangedAtMs: readonly number[]
}

/**
 * Why it is time to look, if it is; until one is settled in it always is, whoever has exchanged with us meanwhile: a
 * newcomer that was asked first would otherwise stay far behind, and what one partner says is not what several say.
 */
export function dueCatchUp(course: CatchUpCourse, scene: CourseScene): CatchUpReason | undefined {
  const { rounds, othersKnown, nowMs, localSteps, oddOneOut } = scene
  const { step, lastExchangeStep, phase, exchanges } = rounds
  if (phase === 'done' || !othersKnown) return undefined
  if (!course.settledIn) return 'newcomer'
  if (exchanges === 0) return undefined
  return catchUpReason({
    step,
    lastExchangeStep,
    localSteps,
    awayMs: nowMs - lastExchangeAtMs(course, scene),
    sinceCatchUpMs: nowMs - course.triedAtMs,
    othersKnown,
    oddOneOut
  })
}

/** Before the first exchange of a life: the end of the last one. */
const lastExchangeAtMs = ({ savedAtMs }: CatchUpCourse, { exchangedAtMs, nowMs }: CourseScene): number =>
  Math.max(...exchangedAtMs, savedAtMs ?? (exchangedAtMs.length === 0 ? nowMs : Number.NEGATIVE_INFINITY))

export const looked = (course: CatchUpCourse, nowMs: number): CatchUpCourse => ({ ...course, triedAtMs: nowMs })

/** After a look at states: who has moved is no newcomer any more, and who has found too few for long looks no longer. */
export const settled = (course: CatchUpCourse, outcome: 'moved' | 'stayed', nowMs: number): CatchUpCourse =>
  outcome === 'moved' || isLongEnough(course, nowMs) ? { ...course, settledIn: true } : course

const isLongEnough = ({ startedAtMs }: CatchUpCourse, nowMs: number): boolean => nowMs - startedAtMs >= GATHER_MS

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
  if (!isBehind(own, steps)) return [{ ...course, settledIn: true }, 'stay']
  return [course, asked >= CATCH_UP_QUORUM || isLongEnough(course, nowMs) ? 'ask' : 'gather']
}

/** Between two states there is no majority: of three and more asked, three must answer; of fewer, all. */
export const enoughStates = (asked: number, states: number): boolean =>
  states > 0 && states >= Math.min(CATCH_UP_QUORUM, asked)
