import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pairwiseMean } from '../../src/consensus/mixing.js'

const vector = fc.float32Array({ minLength: 5, maxLength: 5, noNaN: true, min: -1e3, max: 1e3 })
const weight = fc.integer({ min: 1, max: 1_000_000 })

describe('pairwiseMean', () => {
  it('in closed form: weights 3 and 5, gamma 0.5', () => {
    const own = Float32Array.of(1, -2)
    const partner = Float32Array.of(9, 6)
    expect([...pairwiseMean({ own, partner, ownWeight: 3, partnerWeight: 5, gamma: 0.5 })]).toEqual([2.5, 2.5])
    expect([...pairwiseMean({ own: partner, partner: own, ownWeight: 5, partnerWeight: 3, gamma: 0.5 })]).toEqual([
      -1.5, -1.5
    ])
  })

  it('is antisymmetric: what one side gains, weighted, the other loses', () => {
    fc.assert(
      fc.property(
        vector,
        vector,
        weight,
        weight,
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (a, b, n, m, gamma) => {
          const here = pairwiseMean({ own: a, partner: b, ownWeight: n, partnerWeight: m, gamma })
          const there = pairwiseMean({ own: b, partner: a, ownWeight: m, partnerWeight: n, gamma })
          here.forEach((value, i) => {
            expect(Math.abs(n * value + m * there[i]!)).toBeLessThanOrEqual(2 ** -22 * Math.abs(n * value) + 1e-30)
          })
        }
      )
    )
  })

  it('with gamma 1 both meet in the weighted mean', () => {
    fc.assert(
      fc.property(vector, vector, weight, weight, (a, b, n, m) => {
        const step = pairwiseMean({ own: a, partner: b, ownWeight: n, partnerWeight: m, gamma: 1 })
        step.forEach((value, i) => {
          expect(a[i]! + value).toBeCloseTo((n * a[i]! + m * b[i]!) / (n + m), 2)
        })
      })
    )
  })
})
