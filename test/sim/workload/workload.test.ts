import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { readScenario } from '../../../src/sim/world/scenario.js'
import { createProblem } from '../../../src/sim/workload/workload.js'

const make = (kind: 'quadratic' | 'logistic', over: Record<string, unknown> = {}) =>
  createProblem(
    readScenario({ peers: 5, workload: { kind, size: 6, heterogeneity: 0.7, noise: 0, samples: [20, 60], ...over } })
  )

/** Central differences of the global loss. */
function gradient(loss: (x: ArrayLike<number>) => number, x: Float64Array): number[] {
  return [...x].map((_, k) => {
    const at = (step: number) => loss(x.map((value, i) => (i === k ? value + step : value)))
    return (at(1e-5) - at(-1e-5)) / 2e-5
  })
}

describe.each(['quadratic', 'logistic'] as const)('%s', (kind) => {
  it('has its optimum where the loss is flat, and nothing nearby is better', () => {
    const { optimum, loss, bestLoss } = make(kind)
    for (const slope of gradient(loss, optimum)) expect(Math.abs(slope)).toBeLessThan(1e-8)
    expect(loss(optimum)).toBe(bestLoss)
    const rng = seededRng('near', kind)
    for (let i = 0; i < 50; i++)
      expect(loss(optimum.map((value) => value + 0.1 * (rng.uniform() - 0.5)))).toBeGreaterThan(bestLoss)
  })

  it('is brought there by one machine that takes the steps of all peers in turn', () => {
    const workload = make(kind, { heterogeneity: 0.2 })
    const rng = seededRng('steps')
    const x = workload.reference.slice()
    const start = workload.loss(x) - workload.bestLoss
    for (let step = 0; step < 6_000; step++) {
      const peer = rng.integer(5)
      // Peers of unequal weight: step as far as the weight says.
      const learningRate = (0.02 * (1 - step / 6_000) * workload.weights[peer]!) / 40
      workload.step(peer, x, { learningRate, rng })
    }
    expect(workload.loss(x) - workload.bestLoss).toBeLessThan(0.02 * start)
  })

  it('is the same again for the same seed and another for another', () => {
    expect(make(kind).optimum).toEqual(make(kind).optimum)
    const other = createProblem(readScenario({ peers: 5, seed: 'b', workload: { kind, size: 6 } }))
    expect(other.optimum).not.toEqual(make(kind).optimum)
  })
})

describe('logistic', () => {
  it('takes no more features than Newton can solve for', () => {
    expect(() => make('logistic', { size: 300 })).toThrow(/at most 256/)
  })
})
