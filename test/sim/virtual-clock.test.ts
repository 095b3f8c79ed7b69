import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createVirtualClock } from '../../src/sim/virtual-clock.js'

describe('virtual clock', () => {
  it('runs events by time, and those of one moment in the order they were set', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 200 }), (delays) => {
        const clock = createVirtualClock()
        const seen: [number, number][] = []
        delays.forEach((delay, i) => {
          clock.after(delay, () => seen.push([clock.now(), i]))
        })
        clock.runUntil(20)
        expect(clock.pending()).toBe(0)
        const expected = delays
          .map((delay, i): [number, number] => [delay, i])
          .toSorted((a, b) => a[0] - b[0] || a[1] - b[1])
        expect(seen).toEqual(expected)
      })
    )
  })

  it('stands still between events and stops where it is told', () => {
    const clock = createVirtualClock(1_000)
    const seen: number[] = []
    clock.after(0.5, () => {
      seen.push(clock.now())
      clock.after(3, () => seen.push(clock.now()))
    })
    clock.runUntil(1_002)
    expect(seen).toEqual([1_000.5])
    expect([clock.now(), clock.pending()]).toEqual([1_002, 1])
    clock.runUntil(1_003.5)
    expect(seen).toEqual([1_000.5, 1_003.5])
  })

  it('wakes sleepers, and lets an aborted one go', async () => {
    const clock = createVirtualClock()
    const stop = new AbortController()
    const late = clock.sleep(50, stop.signal)
    const early = clock.sleep(3)
    clock.runUntil(10)
    await early
    stop.abort(new Error('enough'))
    await expect(late).rejects.toThrow('enough')
  })
})
