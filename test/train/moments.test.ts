import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { correlation, joinMoments, type Moments, NO_MOMENTS } from '../../src/train/moments.js'

const of = (predicted: readonly number[], labels: readonly number[]): Moments => {
  const count = predicted.length
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / count
  const [m, n] = [mean(predicted), mean(labels)]
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
  const [x, y] = [predicted.map((value) => value - m), labels.map((value) => value - n)]
  return { count, predicted: m, label: n, predictedSquares: dot(x, x), labelSquares: dot(y, y), products: dot(x, y) }
}

const PREDICTED = [100.5, 101.25, 99, 100, 103.5, 98.25, 100.75]
const LABELS = [1000.25, 1001, 999.5, 1000.5, 1002, 999.75, 1000]

describe('moments', () => {
  // torch.corrcoef of the two lists above in float64, torch 2.13.
  it('give the correlation of PyTorch, in one piece and in parts', () => {
    expect(correlation(of(PREDICTED, LABELS))).toBeCloseTo(0.9172821689740234, 12)
    const parts = [
      [0, 2],
      [2, 3],
      [3, 7]
    ].map(([from, to]) => of(PREDICTED.slice(from, to), LABELS.slice(from, to)))
    expect(correlation(parts.reduce(joinMoments, NO_MOMENTS))).toBeCloseTo(0.9172821689740234, 12)
  })

  it('join to those of the whole, wherever it is cut', () => {
    const pair = fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: 900, max: 1000 }))
    fc.assert(
      fc.property(fc.array(pair, { minLength: 2, maxLength: 30 }), fc.nat(), (pairs, cut) => {
        const at = 1 + (cut % (pairs.length - 1))
        const part = (from: number, to?: number) =>
          of(
            pairs.slice(from, to).map(([x]) => x),
            pairs.slice(from, to).map(([, y]) => y)
          )
        const joined = joinMoments(part(0, at), part(at))
        for (const [key, value] of Object.entries(part(0))) expect(joined[key as keyof Moments]).toBeCloseTo(value, 6)
      })
    )
  })

  it('of what does not vary have no correlation', () => {
    expect(correlation(of([1, 1], [2, 3]))).toBeNaN()
    expect(joinMoments(NO_MOMENTS, NO_MOMENTS)).toEqual(NO_MOMENTS)
  })
})
