import { describe, expect, it } from 'vitest'
import { runScenario } from '../../src/sim/run.js'
import { ATTACKS, readScenario } from '../../src/sim/world/scenario.js'

describe('crashes', () => {
  const crashing = (exchangeLog: boolean) =>
    readScenario({
      seed: 'crash',
      peers: 8,
      durationMs: 120_000,
      peer: { crashesPerMinute: 4, checkpointEvery: 8, exchangeLog, downMs: [100, 3_000] }
    })

  it('lose nothing with the exchange log, although checkpoints are older', async () => {
    const { violations, counts, drift } = await runScenario(crashing(true))
    expect(counts.crash).toBeGreaterThan(20)
    expect(violations).toEqual([])
    expect(drift).toBeLessThan(1e-6)
  })

  it('without it lose halves of exchanges, and the simulator sees it', async () => {
    const { violations, drift } = await runScenario(crashing(false))
    expect(violations.map(({ code }) => code)).toContain('half-applied')
    expect(drift).toBeGreaterThan(1e-4)
  })
})

describe('consensus', () => {
  it.each(['ring', 'exponential', 'random-regular', 'random-peers', 'complete'] as const)(
    'on %s comes no later than randomized gossip with that gap',
    async (kind) => {
      const result = await runScenario(
        readScenario({
          peers: 16,
          durationMs: kind === 'ring' ? 240_000 : 60_000,
          measureMs: 500,
          overlay: { kind },
          mixing: { codec: 'float32' },
          workload: { size: 64, samples: [100, 100] }
        })
      )
      expect(result.violations).toEqual([])
      expect(result.exchangesToShrink).toBeLessThan(1.1 * result.predictedExchanges!)
      // Only the slowest mode takes as long as predicted; a random start is mostly others.
      expect(result.exchangesToShrink).toBeGreaterThan(0.25 * result.predictedExchanges!)
    }
  )
})

describe('learning', () => {
  it.each(['quadratic', 'logistic'] as const)(
    '%s: peers that only know their own data reach the common optimum',
    async (kind) => {
      const result = await runScenario(
        readScenario({
          peers: 8,
          durationMs: 300_000,
          measureMs: 10_000,
          mixing: { totalSteps: 600, localSteps: 4, settleExchanges: 14 },
          workload: { kind, size: 10, learningRate: kind === 'quadratic' ? 0.05 : 0.2, heterogeneity: 0.3 },
          network: { loss: 0.02, cut: 0.05 }
        })
      )
      const [first, last] = [result.measurements[0]!, result.measurements.at(-1)!]
      expect(result.violations).toEqual([])
      expect(last.excessLoss).toBeLessThan(0.05 * first.excessLoss)
      expect(result.drift).toBeLessThan(1e-6)
    }
  )
})

describe('attackers', () => {
  it.each(ATTACKS.filter((attack) => attack !== 'gradient-assembly'))(
    '%s: honest peers stay finite, bounded and whole among themselves',
    async (attack) => {
      const result = await runScenario(
        readScenario({
          peers: 8,
          durationMs: 40_000,
          attackers: [{ attack, count: 2 }],
          workload: { kind: attack === 'label-flip' ? 'quadratic' : 'none', size: 20 },
          peer: { crashesPerMinute: 2 }
        })
      )
      expect(result.violations).toEqual([])
      expect(result.exchanges).toBeGreaterThan(20)
      const judged = Object.keys(result.counts).filter((what) => what.startsWith('verdict'))
      if (attack === 'nan-payload') expect(judged).toContain('verdict codec/not-finite')
      if (attack === 'garbage-frames') expect(judged.some((what) => /malformed|truncated|magic/.test(what))).toBe(true)
      if (attack === 'silence') expect(judged).toContain('verdict exchange/timeout')
    }
  )
})

describe('partitions', () => {
  it('let each side agree with itself, and all with all once they heal', async () => {
    const { measurements, violations } = await runScenario(
      readScenario({
        peers: 8,
        durationMs: 90_000,
        measureMs: 10_000,
        overlay: { kind: 'complete' },
        partitions: [{ atMs: 0, forMs: 45_000, groups: 2 }],
        workload: { size: 40 },
        mixing: { codec: 'float32' }
      })
    )
    const errorAt = (atMs: number) => measurements.find((one) => one.atMs === atMs)!.error
    expect(violations).toEqual([])
    // The halves' means stay apart by about 1 / sqrt(8) of the start.
    expect(errorAt(40_000)).toBeGreaterThan(0.15)
    expect(errorAt(40_000)).toBeLessThan(0.6)
    expect(errorAt(90_000)).toBeLessThan(0.01)
  })
})
