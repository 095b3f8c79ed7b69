import { describe, expect, it } from 'vitest'
import { AWAY_MS, CATCH_UP_PAUSE_MS, CATCH_UP_QUORUM, GATHER_MS } from '../../src/consensus/catch-up.js'
import {
  type CourseScene,
  catchUpCourse,
  dueCatchUp,
  enoughStates,
  exchanged,
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
  others: 4,
  oddOneOut: false,
  ...changes
})

describe('a newcomer', () => {
  it('looks, whoever has exchanged with it before it came to that', () => {
    const course = catchUpCourse(NOW)
    const none = { step: 4, lastExchangeStep: 0, exchanges: 0, phase: 'training' } as const
    expect(dueCatchUp(course, scene({ rounds: none, exchangedAtMs: [] }))).toBe('newcomer')
    expect(dueCatchUp(course, scene())).toBe('newcomer')
    expect(dueCatchUp(course, scene({ others: 0 }))).toBeUndefined()
    expect(dueCatchUp(course, scene({ rounds: { ...none, phase: 'done' } }))).toBeUndefined()
    // Who has a checkpoint is none.
    expect(dueCatchUp(catchUpCourse(NOW, { savedAtMs: NOW - 5_000 }), scene())).toBeUndefined()
  })

  it.each([
    ['others as far as it is', { steps: [12, 13, 19], asked: 3 }, 'stay', undefined],
    ['two rounds behind the middle one of enough', { steps: [5, 20, 90], asked: 3 }, 'ask', 'newcomer'],
    ['behind the only two there are, at first', { steps: [90, 91], asked: 2 }, 'gather', 'newcomer'],
    ['behind them, after a while', { steps: [90, 91], asked: 2, nowMs: NOW + GATHER_MS }, 'ask', 'newcomer'],
    ['nobody who answers', { steps: [], asked: 4 }, 'stay', undefined]
  ] as const)('%s', (_, heard, then, pending) => {
    const [course, next] = placesHeard(catchUpCourse(NOW), { nowMs: NOW + 100, step: 12, localSteps: 4, ...heard })
    expect([next, course.pending]).toEqual([then, pending])
  })

  it('looks again after too few states, until it has moved or has looked for long', () => {
    const course = looked(catchUpCourse(NOW), NOW + 1)
    expect(settled(course, 'moved', NOW + 1).pending).toBeUndefined()
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

  it('has still to look when somebody calls first, until it has moved or looked for long', () => {
    const back = catchUpCourse(NOW - 50, { savedAtMs: NOW - AWAY_MS })
    const course = exchanged(back, scene({ exchangedAtMs: [] }))
    expect(dueCatchUp(course, scene({ exchangedAtMs: [NOW] }))).toBe('away')
    expect(dueCatchUp(back, scene({ exchangedAtMs: [NOW] }))).toBeUndefined()
    const tried = settled(looked(course, NOW + 1), 'stayed', NOW + 1)
    expect(dueCatchUp(tried, scene({ exchangedAtMs: [NOW] }))).toBe('away')
    expect(dueCatchUp(settled(tried, 'moved', NOW + 2), scene({ exchangedAtMs: [NOW] }))).toBeUndefined()
    expect(dueCatchUp(settled(tried, 'stayed', NOW + GATHER_MS), scene({ exchangedAtMs: [NOW] }))).toBeUndefined()
    // Who is in the middle of it has nothing to look for.
    expect(exchanged(back, scene())).toBe(back)
  })

  it.each([
    ['newcomer', 5, CATCH_UP_QUORUM, true],
    ['newcomer', 5, CATCH_UP_QUORUM - 1, false],
    ['newcomer', 2, 2, true],
    ['newcomer', 2, 1, false],
    ['newcomer', 0, 0, false],
    ['away', 5, CATCH_UP_QUORUM, true],
    ['away', 2, 2, false],
    ['odd-one-out', 1, 1, false]
  ] as const)('%s, %i asked, %i answers', (reason, asked, answers, enough) => {
    expect(enoughStates(reason, asked, answers)).toBe(enough)
  })

  it('does not give up its work for one or two others, who may have been away as well', () => {
    const course = catchUpCourse(NOW - 50, { savedAtMs: NOW - AWAY_MS })
    for (const others of [1, 2]) expect(dueCatchUp(course, scene({ others, exchangedAtMs: [] }))).toBeUndefined()
    expect(dueCatchUp(course, scene({ others: 3, exchangedAtMs: [] }))).toBe('away')
  })
})
