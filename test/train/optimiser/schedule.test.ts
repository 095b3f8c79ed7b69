import { describe, expect, it } from 'vitest'
import { scheduleFactor, type Schedule } from '../../../src/train/optimiser/schedule.js'

const factors = (schedule: Schedule, steps: readonly number[]) => steps.map((step) => scheduleFactor(schedule, step))

describe('scheduleFactor', () => {
  it('stays at 1 when constant', () => {
    expect(factors({ kind: 'constant' }, [0, 1, 1_000_000])).toEqual([1, 1, 1])
  })

  it('warms up in equal parts from 0', () => {
    expect(factors({ kind: 'constant', warmupSteps: 4 }, [0, 1, 2, 3, 4, 5])).toEqual([0, 0.25, 0.5, 0.75, 1, 1])
  })

  it('falls from 1 to 0 along half a cosine', () => {
    const values = factors({ kind: 'cosine', totalSteps: 12 }, [0, 2, 4, 6, 8, 10, 12, 13])
    const root = Math.sqrt(3) / 4
    const expected = [1, 0.5 + root, 0.75, 0.5, 0.25, 0.5 - root, 0, 0]
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i]!, 12)
  })

  it('starts the cosine where the warm-up ends', () => {
    const values = factors({ kind: 'cosine', totalSteps: 14, warmupSteps: 2 }, [0, 1, 2, 6, 8, 10, 14])
    const expected = [0, 0.5, 1, 0.75, 0.5, 0.25, 0]
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i]!, 12)
  })

  it('is 0 past the end even when the warm-up fills it', () => {
    expect(factors({ kind: 'cosine', totalSteps: 3, warmupSteps: 3 }, [2, 3, 4])).toEqual([2 / 3, 0, 0])
  })
})
