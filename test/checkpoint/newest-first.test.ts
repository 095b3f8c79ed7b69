import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSaver } from '../../src/checkpoint/newest-first.js'
import { stateAt } from './states.js'

describe('createSaver', () => {
  it('writes one state at a time, never an older after a newer, and resolves when one at least as new is written', () =>
    fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 8 }), async (scheduler, count) => {
        const written: number[] = []
        let writing = 0
        const save = createSaver(async ({ step, parameters, adam }) => {
          expect(++writing).toBe(1)
          await scheduler.schedule(Promise.resolve())
          // The memory of a state that was written is used again, that of one being written is not.
          const { parameters: expected, adam: moments } = stateAt(step)
          expect([parameters, adam.m, adam.v]).toEqual([expected, moments.m, moments.v])
          written.push(step)
          writing--
        })
        let step = 0
        const caller = async () => {
          await scheduler.schedule(Promise.resolve())
          const mine = ++step
          await save(stateAt(mine))
          expect(Math.max(...written)).toBeGreaterThanOrEqual(mine)
          // At once after a save is when the next write is about to begin.
          const again = ++step
          await save(stateAt(again))
          expect(Math.max(...written)).toBeGreaterThanOrEqual(again)
        }
        const callers = Promise.all(Array.from({ length: count }, caller))
        await scheduler.waitFor(callers)
        expect(written).toEqual([...written].sort((a, b) => a - b))
        expect(written.at(-1)).toBe(2 * count)
      })
    ))
})
