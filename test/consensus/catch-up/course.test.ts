import { describe, expect, it } from 'vitest'
import { AWAY_MS, CATCH_UP_PAUSE_MS, CATCH_UP_QUORUM, GATHER_MS } from '../../../src/consensus/catch-up/catch-up.js'
import {
  type CourseScene,
  catchUpCourse,
  dueCatchUp,
  enoughStates,
  exchanged,
  GATHER_RETRY_MS,
  looked,
  placesHeard,
  settled
} from '../../../src/consensus/catch-up/course.js'

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

  const places = (steps: readonly number[]) => steps.map((step, i) => ({ peer: `peer-${i}`, step }))
  const own = { nowMs: NOW + 100, step: 12, localSteps: 4 }

  it.each([
    ['others as far as it is', { places: places([12, 13, 19]) }, 'stay', undefined],
    ['two rounds behind the middle one of enough', { places: places([5, 20, 90]) }, 'ask', 'newcomer'],
    ['behind the only two there are, at first', { places: places([90, 91]) }, 'gather', 'newcomer'],
    ['behind them, after a while', { places: places([90, 91]), nowMs: NOW + GATHER_MS }, 'ask', 'newcomer'],
    ['nobody who answers', { places: [] }, 'stay', 'newcomer'],
    ['one at the start, a newcomer as well or a liar', { places: places([0]) }, 'stay', 'newcomer'],
    ['one of two at the start', { places: places([0, 90]) }, 'stay', 'newcomer']
  ] as const)('%s', (_, heard, then, pending) => {
    const [course, next] = placesHeard(looked(catchUpCourse(NOW - 60_000), NOW), { ...own, ...heard })
    expect([next, course.pending]).toEqual([then, pending])
  })

  it('goes on as it is for a second after it has heard too few, and looks again', () => {
    const [course] = placesHeard(looked(catchUpCourse(NOW), NOW), { ...own, places: places([0]) })
    const due = (nowMs: number) => dueCatchUp(course, scene({ nowMs }))
    expect(due(NOW + 100)).toBeUndefined()
    expect(due(NOW + 99 + GATHER_RETRY_MS)).toBeUndefined()
    expect(due(NOW + 100 + GATHER_RETRY_MS)).toBe('newcomer')
    // With those that it had not met before it knows better, whatever the first one still says.
    const later = { ...own, nowMs: NOW + 2_000, places: places([0, 90, 91]) }
    expect(placesHeard(looked(course, NOW + 1_900), later)[1]).toBe('ask')
  })

  it('has looked for long ten seconds after its first look, by a look that began then', () => {
    // What it trained before it met anybody is no search, and a look in which nobody answers is one, however long it takes.
    const first = looked(catchUpCourse(NOW - 60_000), NOW)
    const [course, next] = placesHeard(first, { ...own, nowMs: NOW + GATHER_MS, places: [] })
    expect([next, course.pending]).toEqual(['stay', 'newcomer'])
    const [early] = placesHeard(looked(course, NOW + GATHER_MS - 1), { ...own, nowMs: NOW + GATHER_MS, places: [] })
    expect(early.pending).toBe('newcomer')
    const [late] = placesHeard(looked(course, NOW + GATHER_MS), { ...own, nowMs: NOW + GATHER_MS + 1, places: [] })
    expect(late.pending).toBeUndefined()
  })

  it('does not take those for ahead that began with it and only run faster', () => {
    const [course] = placesHeard(looked(catchUpCourse(NOW), NOW), { ...own, places: places([12, 15]) })
    const later = { ...own, nowMs: NOW + 3_000, step: 20 }
    const again = looked(course, NOW + 2_900)
    expect(placesHeard(again, { ...later, places: places([90, 91]) })[1]).toBe('stay')
    expect(placesHeard(again, { ...later, places: places([90, 91, 92]) })[1]).toBe('stay')
    // Two strangers outvote one of them.
    const strangers = [...places([90]), { peer: 'far', step: 90 }, { peer: 'farther', step: 95 }]
    expect(placesHeard(again, { ...later, places: strangers })[1]).toBe('ask')
  })

  it('looks again after too few states, until it has moved or has looked for long', () => {
    const course = looked(catchUpCourse(NOW), NOW + 1)
    expect(settled(course, 'moved', NOW + 1).pending).toBeUndefined()
    const again = settled(course, 'stayed', NOW + GATHER_MS)
    expect(dueCatchUp(again, scene())).toBe('newcomer')
    expect(dueCatchUp(settled(course, 'stayed', NOW + 1 + GATHER_MS), scene())).toBeUndefined()
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
