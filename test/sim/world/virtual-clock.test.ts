import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createVirtualClock } from '../../../src/sim/world/virtual-clock.js'

describe('virtual clock', () => {
  it('runs events by time, and those of one moment in the order they were set', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 200 }), async (delays) => {
        const clock = createVirtualClock()
        const seen: [number, number][] = []
        delays.forEach((delay, i) => {
          clock.after(delay, () => seen.push([clock.now(), i]))
        })
        await clock.runUntil(20)
        expect(clock.pending()).toBe(0)
        const expected = delays
          .map((delay, i): [number, number] => [delay, i])
          .toSorted((a, b) => a[0] - b[0] || a[1] - b[1])
        expect(seen).toEqual(expected)
      })
    )
  })

  it('stands still between events and stops where it is told', async () => {
    const clock = createVirtualClock(1_000)
    const seen: number[] = []
    clock.after(0.5, () => {
      seen.push(clock.now())
      clock.after(3, () => seen.push(clock.now()))
    })
    await clock.runUntil(1_002)
    expect(seen).toEqual([1_000.5])
    expect([clock.now(), clock.pending()]).toEqual([1_002, 1])
    await clock.runUntil(1_003.5)
    expect(seen).toEqual([1_000.5, 1_003.5])
  })

  it('stands still for an event that takes real time', async () => {
    const clock = createVirtualClock()
    const seen: string[] = []
    const real = Promise.withResolvers<void>()
    clock.after(1, async () => {
      await real.promise
      seen.push(`slow ${clock.now()}`)
    })
    clock.after(2, () => seen.push(`next ${clock.now()}`))
    const ran = clock.runUntil(5)
    await Promise.resolve()
    expect([clock.now(), seen]).toEqual([1, []])
    real.resolve()
    await ran
    expect(seen).toEqual(['slow 1', 'next 2'])
  })

  it('wakes sleepers, and lets an aborted one go', async () => {
    const clock = createVirtualClock()
    const stop = new AbortController()
    const late = clock.sleep(50, stop.signal)
    const early = clock.sleep(3)
    await clock.runUntil(10)
    await early
    stop.abort(new Error('enough'))
    await expect(late).rejects.toThrow('enough')
  })
})
