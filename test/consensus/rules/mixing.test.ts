import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pairwiseMean, pullScale } from '../../../src/consensus/rules/mixing.js'
import { MAX_WEIGHT } from '../../../src/consensus/weight.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { gaussian, schema } from '../../codec/codec-cases.js'
import { type MachineNetwork, machineNetwork } from '../exchange/machines.js'

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

describe('pullScale', () => {
  it('in closed form: towards twice as many examples half of the way, from there a quarter, as Metropolis-Hastings', () => {
    const step = (n: number, m: number) => (pullScale(n, m, 0.5) * m) / (n + m)
    expect(step(5, 10)).toBeCloseTo(1 / 2, 15)
    expect(step(10, 5)).toBeCloseTo(1 / 4, 15)
    expect(step(7, 7)).toBe(1 / 2)
    expect(pullScale(1, 3, 0.75)).toBe(1)
    expect(pullScale(1, 4, 0.75)).toBeCloseTo(0.9375, 15)
  })

  it('bounds both sides, is the same on both, and costs at most a quarter of what a step does', () => {
    fc.assert(
      fc.property(weight, fc.oneof(weight, fc.constant(MAX_WEIGHT)), (n, m) => {
        const scale = pullScale(n, m, 0.5)
        expect(pullScale(m, n, 0.5)).toBe(scale)
        expect((scale * Math.max(n, m)) / (n + m)).toBeLessThanOrEqual(0.5 + 1e-15)
        // The pair's weighted variance falls by s (2 - s) of what a whole step takes away.
        expect(scale * (2 - scale)).toBeGreaterThanOrEqual(0.75)
      })
    )
  })
})

describe('an exchange with a bound on the pull', () => {
  const reference = gaussian(schema.size, 'x0')
  const starts = ['a', 'b', 'c'].map((name) => gaussian(schema.size, name))
  const network = (weights: readonly number[], maxPull?: number) =>
    machineNetwork({
      weights,
      reference,
      starts,
      codec: 'float32',
      ...(maxPull === undefined ? {} : { more: { maxPull } })
    })
  const meet = (met: MachineNetwork, from: number, to: number) => {
    met.initiate(from, to)
    met.drain()
  }

  it('takes nobody farther than half of the way, whatever the partner claims and in either role', () => {
    for (const [from, to] of [
      [0, 1],
      [1, 0]
    ] as const) {
      const bounded = network([30, MAX_WEIGHT, 30], 0.5)
      meet(bounded, from, to)
      expect(distance2(bounded.parameters[0]!, starts[0]!) / distance2(starts[1]!, starts[0]!)).toBeCloseTo(0.5, 5)
      const free = network([30, MAX_WEIGHT, 30])
      meet(free, from, to)
      expect(distance2(free.parameters[0]!, starts[0]!) / distance2(starts[1]!, starts[0]!)).toBeCloseTo(1, 5)
    }
  })

  it('keeps the mean of all peers, weighted by what they claim', () => {
    const weights = [30, 7, 900]
    const bounded = network(weights, 0.5)
    for (const [from, to] of [
      [0, 1],
      [2, 1],
      [0, 2],
      [1, 2]
    ] as const)
      meet(bounded, from, to)
    const [before, after] = [weightedMean(starts, weights), weightedMean(bounded.parameters, weights)]
    expect(Math.hypot(...before.map((value, i) => value - after[i]!)) / Math.hypot(...before)).toBeLessThan(1e-6)
    expect(distance2(bounded.parameters[0]!, starts[0]!)).toBeGreaterThan(1)
  })

  it('remembers no claim: one that grows from exchange to exchange gains nothing', () => {
    const [steady, growing] = [network([30, 30, 1], 0.5), network([30, 30, 1], 0.5)]
    for (const claim of [30, 3000, MAX_WEIGHT]) {
      growing.configs[1] = { ...growing.configs[1]!, weight: claim }
      for (const one of [steady, growing]) {
        one.parameters[1]!.set(starts[1]!)
        meet(one, 1, 0)
      }
    }
    expect(growing.parameters[0]).toEqual(steady.parameters[0])
  })

  it.each([0, -1, 1.5, Number.NaN, MAX_WEIGHT + 1])('is refused to one that claims %d examples', (claim) => {
    for (const [from, to] of [
      [0, 1],
      [1, 0]
    ] as const) {
      const met = network([30, claim, 30], 0.5)
      meet(met, from, to)
      expect(met.parameters[0]).toEqual(starts[0])
      const verdicts = met.log.flatMap(({ effect }) => (effect.type === 'penalise' ? [effect] : []))
      expect(verdicts).toMatchObject([{ peer: 'peer-1', verdict: { code: 'exchange/absurd-weight' } }])
    }
  })
})
