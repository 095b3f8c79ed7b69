import { describe, expect, it } from 'vitest'
import { AWAY_MS, CATCH_UP_PAUSE_MS, CATCH_UP_QUORUM, GATHER_MS } from '../../src/consensus/catch-up.js'
import {
  type CourseScene,
  catchUpCourse,
  dueCatchUp,
  enoughStates,
  looked,
  placesHeard,
  settled
} from '../../src/consensus/catch-up-course.js'

const NOW = 5_000_000

const scene = (changes: Partial<CourseScene> = {}): CourseScene => ({
  nowMs: NOW,
  rounds: { step: 12, lastExchangeStep: 8, exchanges: 3, phase: 'training' },
  localSteps: 4,
  exchangedAtMs: [NOW - 2_000],
  othersKnown: true,
  oddOneOut: false,
  ...changes
})

describe('a newcomer', () => {
  it('looks, whoever has exchanged with it before it came to that', () => {
    const course = catchUpCourse(NOW)
    const none = { step: 4, lastExchangeStep: 0, exchanges: 0, phase: 'training' } as const
    expect(dueCatchUp(course, scene({ rounds: none, exchangedAtMs: [] }))).toBe('newcomer')
    expect(dueCatchUp(course, scene())).toBe('newcomer')
    expect(dueCatchUp(course, scene({ othersKnown: false }))).toBeUndefined()
    expect(dueCatchUp(course, scene({ rounds: { ...none, phase: 'done' } }))).toBeUndefined()
    // Who has a checkpoint is none.
    expect(dueCatchUp(catchUpCourse(NOW, { savedAtMs: NOW - 5_000 }), scene())).toBeUndefined()
  })

  it.each([
    ['others as far as it is', { steps: [12, 13, 19], asked: 3 }, 'stay', true],
    ['two rounds behind the middle one of enough', { steps: [5, 20, 90], asked: 3 }, 'ask', false],
    ['behind the only two there are, at first', { steps: [90, 91], asked: 2 }, 'gather', false],
    ['behind them, after a while', { steps: [90, 91], asked: 2, nowMs: NOW + GATHER_MS }, 'ask', false],
    ['nobody who answers', { steps: [], asked: 4 }, 'stay', true]
  ] as const)('%s', (_, heard, then, settledIn) => {
    const [course, next] = placesHeard(catchUpCourse(NOW), { nowMs: NOW + 100, step: 12, localSteps: 4, ...heard })
    expect([next, course.settledIn]).toEqual([then, settledIn])
  })

  it('looks again after too few states, until it has moved or has looked for long', () => {
    const course = looked(catchUpCourse(NOW), NOW + 1)
    expect(settled(course, 'moved', NOW + 1).settledIn).toBe(true)
    const again = settled(course, 'stayed', NOW + 1)
    expect(dueCatchUp(again, scene())).toBe('newcomer')
    expect(dueCatchUp(settled(course, 'stayed', NOW + GATHER_MS), scene())).toBeUndefined()
  })
})

describe('one that was away', () => {
  it('is told by its last exchange, and before one by the end of its last life', () => {
    const course = catchUpCourse(NOW - 50, { savedAtMs: NOW - AWAY_MS })
    expect(dueCatchUp(course, scene({ exchangedAtMs: [] }))).toBe('away')
    expect(dueCatchUp(course, scene({ exchangedAtMs: [NOW - AWAY_MS, NOW - 60] }))).toBeUndefined()
    expect(dueCatchUp(looked(course, NOW - CATCH_UP_PAUSE_MS + 1), scene({ exchangedAtMs: [] }))).toBeUndefined()
    expect(dueCatchUp(catchUpCourse(NOW, { savedAtMs: NOW - 1 }), scene({ oddOneOut: true }))).toBe('odd-one-out')
  })

  it.each([
    [5, CATCH_UP_QUORUM, true],
    [5, CATCH_UP_QUORUM - 1, false],
    [2, 2, true],
    [2, 1, false],
    [0, 0, false]
  ])('%i asked, %i answers', (asked, answers, enough) => {
    expect(enoughStates(asked, answers)).toBe(enough)
  })
})
