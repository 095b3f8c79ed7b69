import type { Phase } from '../../codec/wire/messages.js'
import {
  CATCH_UP_QUORUM,
  type CatchUpReason,
  type CatchUpScene,
  catchUpReason,
  GATHER_MS,
  isBehind
} from './catch-up.js'
import type { PeerId } from '../peer-id.js'
import type { RoundsState } from '../rounds.js'

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
  /** Since when; of a newcomer, since its first look: however long it trained before, it has looked for no time. */
  readonly pendingSinceMs: number
  /** Until then a newcomer that has heard too few, and none of them ahead, exchanges and trains like anybody else. */
  readonly againAtMs: number
  /**
   * Peers that a newcomer has once heard to be no farther than itself: at most the few of each look before a quorum. Those that
   * only run faster than it does must not take it for late afterwards.
   */
  readonly level: ReadonlySet<PeerId>
}

/** Milliseconds before a newcomer that has found too few peers looks for more. */
export const GATHER_RETRY_MS = 1_000
/** Milliseconds for the answer to how far a peer is, a few bytes: exchanges wait for it, and who is silent is asked again. */
export const PLACE_TIMEOUT_MS = 10_000

export const catchUpCourse = (
  startedAtMs: number,
  { savedAtMs, late = savedAtMs === undefined }: { readonly savedAtMs?: number; readonly late?: boolean } = {}
): CatchUpCourse => ({
  savedAtMs,
  triedAtMs: Number.NEGATIVE_INFINITY,
  pending: late ? 'newcomer' : undefined,
  pendingSinceMs: startedAtMs,
  againAtMs: startedAtMs,
  level: new Set()
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
  if (course.pending === 'newcomer' && nowMs < course.againAtMs) return undefined
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

export function looked(course: CatchUpCourse, nowMs: number): CatchUpCourse {
  const first = course.pending === 'newcomer' && course.triedAtMs === Number.NEGATIVE_INFINITY
  return { ...course, triedAtMs: nowMs, pendingSinceMs: first ? nowMs : course.pendingSinceMs }
}

/** After a look at states: who has moved is where the others are, and who has found too few for long looks no longer. */
export const settled = (course: CatchUpCourse, outcome: 'moved' | 'stayed', nowMs: number): CatchUpCourse =>
  outcome === 'moved' || isLongEnough(course, nowMs) ? { ...course, pending: undefined } : course

const isLongEnough = ({ pendingSinceMs }: CatchUpCourse, nowMs: number): boolean => nowMs - pendingSinceMs >= GATHER_MS

/** How far a peer says it is. */
export interface PlaceHeard {
  readonly peer: PeerId
  /** Local steps taken. */
  readonly step: number
}

export interface PlacesHeard {
  readonly nowMs: number
  readonly step: number
  readonly localSteps: number
  /** Of the peers that were asked, those that have answered. */
  readonly places: readonly PlaceHeard[]
}

/**
 * What a newcomer does once it knows how far others are: goes on as it is, waits for more of them, or asks for their states.
 * Fewer than a quorum settle nothing: they may be newcomers as well, or liars. It goes on and looks again, until a look begun
 * after `GATHER_MS` has found no more. Among those that began together it loses a question a second by that, and no exchange.
 */
export function placesHeard(
  course: CatchUpCourse,
  { nowMs, places, ...own }: PlacesHeard
): readonly [CatchUpCourse, 'stay' | 'gather' | 'ask'] {
  const enough = places.length >= CATCH_UP_QUORUM
  const steps = places.map(({ peer, step }) => (course.level.has(peer) ? Math.min(step, own.step) : step))
  if (isBehind(own, steps)) return [course, enough || isLongEnough(course, nowMs) ? 'ask' : 'gather']
  if (enough || isLongEnough(course, course.triedAtMs)) return [{ ...course, pending: undefined }, 'stay']
  const level = places.flatMap(({ peer, step }) => (isBehind(own, [step]) ? [] : [peer]))
  return [{ ...course, againAtMs: nowMs + GATHER_RETRY_MS, level: new Set([...course.level, ...level]) }, 'stay']
}

/** Between two states there is no majority: three must answer. A newcomer has nothing to lose and goes by fewer, all of them. */
export const enoughStates = (reason: CatchUpReason, asked: number, states: number): boolean =>
  states > 0 && states >= (reason === 'newcomer' ? Math.min(CATCH_UP_QUORUM, asked) : CATCH_UP_QUORUM)
