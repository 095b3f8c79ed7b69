import { describe, expect, it } from 'vitest'
import { runScenario } from '../../../src/sim/run.js'
import { ATTACKS, readScenario } from '../../../src/sim/world/scenario.js'

const scenario = (changes: Record<string, unknown> = {}) => ({
  peers: 6,
  durationMs: 15_000,
  measureMs: 15_000,
  overlay: { kind: 'random-regular', degree: 4 },
  mixing: { mode: 'broadcast', codec: 'topk-int4', fraction: 0.25, localSteps: 4 },
  broadcast: { outerStep: 1 },
  workload: { kind: 'quadratic', size: 12, samples: [50, 150] },
  ...changes
})

describe('broadcast in the simulator', () => {
  it('brings everybody the same bits through loss, partitions, crashes and overtaking', async () => {
    const { violations, counts, updates } = await runScenario(
      readScenario(
        scenario({
          seed: 'storm',
          network: { loss: 0.3, duplication: 0.2, reordering: 0.3, cut: 0.3 },
          peer: { crashesPerMinute: 6, checkpointEvery: 3 },
          partitions: [{ atMs: 4_000, forMs: 6_000, groups: 2 }]
        })
      )
    )
    expect(violations).toEqual([])
    expect(updates).toBeGreaterThan(40)
    expect(counts.crash).toBeGreaterThan(3)
    expect(counts['verdict broadcast/duplicate']).toBeGreaterThan(0)
  })

  it('without the log forgets numbers it has used, and the simulator sees it', async () => {
    const { violations } = await runScenario(
      readScenario(
        scenario({
          seed: 'forgetful',
          // It writes on before anybody can tell it what it has written.
          mixing: { mode: 'broadcast', codec: 'topk-int4', fraction: 0.25, localSteps: 1 },
          network: { latencyMs: [1_500, 1_500], frameTimeoutMs: 20_000 },
          peer: { crashesPerMinute: 6, checkpointEvery: 3, exchangeLog: false }
        })
      )
    )
    expect(violations.map(({ code }) => code)).toContain('number-used-twice')
  })

  it.each(ATTACKS.filter((attack) => attack !== 'sybil' && attack !== 'gradient-assembly'))(
    'honest replicas stay equal with an attacker: %s',
    async (attack) => {
      const { violations, counts } = await runScenario(
        readScenario(scenario({ seed: attack, attackers: [{ attack, count: 1 }], network: { loss: 0.2 } }))
      )
      expect(violations).toEqual([])
      if (attack === 'equivocation') expect(counts.equivocation).toBeGreaterThanOrEqual(5)
      if (attack === 'nan-payload') expect(counts['verdict codec/malformed']).toBeGreaterThan(4)
    }
  )

  it.each(['ipm', 'alie', 'dissensus', 'mimic', 'gaussian', 'label-flip'] as const)(
    'what %s says counts, and maxStep bounds it',
    async (attack) => {
      const run = async (attackers: readonly object[], maxStep: number) => {
        const { measurements, violations } = await runScenario(
          readScenario(
            scenario({
              durationMs: 40_000,
              measureMs: 40_000,
              mixing: { mode: 'broadcast', codec: 'int8', localSteps: 4, totalSteps: 100 },
              broadcast: { maxStep },
              attackers
            })
          )
        )
        expect(violations).toEqual([])
        return measurements.at(-1)!.mean
      }
      const attackers = [{ attack, count: 2 }]
      const [quiet, loud, bounded] = [
        await run([{ attack: 'silence', count: 2 }], 1),
        await run(attackers, 1),
        await run(attackers, 1e-6)
      ]
      // Two of six with a quarter to a half of the weight: the replica goes elsewhere, but not with steps of a millionth.
      expect(Math.max(...loud.map((value, k) => Math.abs(value - quiet[k]!)))).toBeGreaterThan(0.01)
      const moved = await run([{ attack: 'silence', count: 2 }], 1e-6)
      expect(Math.max(...bounded.map((value, k) => Math.abs(value - moved[k]!)))).toBeLessThan(2e-3)
    }
  )

  it.each(['replica', 'own'])(
    'finds the common optimum that no peer knows by itself, going on at %s',
    async (resumeAt) => {
      const { violations, measurements } = await runScenario(
        readScenario(
          scenario({
            durationMs: 120_000,
            measureMs: 120_000,
            mixing: { mode: 'broadcast', codec: 'topk-int4', fraction: 0.25, localSteps: 4, totalSteps: 400 },
            // Without decay everything is told in the end.
            broadcast: { outerStep: 1, decay: 1, resumeAt },
            workload: { kind: 'quadratic', size: 12, learningRate: 0.05, noise: 0.05, heterogeneity: 0.5 }
          })
        )
      )
      expect(violations).toEqual([])
      const [first, last] = [measurements[0]!, measurements.at(-1)!]
      expect(last.excessLoss).toBeLessThan(0.01 * first.excessLoss)
      // All of them: there is one replica.
      expect(last.distance).toBe(0)
    }
  )

  it('goes the same way again from the same seed', async () => {
    const once = async () =>
      (await runScenario(readScenario(scenario({ durationMs: 5_000, measureMs: 5_000, network: { loss: 0.2 } }))))
        .traceHash
    expect(await once()).toBe(await once())
  })

  it('refuses what cannot come together', () => {
    expect(() => readScenario(scenario({ overlay: { kind: 'random-peers' } }))).toThrowError(/overlay.kind/)
    expect(() => readScenario(scenario({ peers: 300 }))).toThrowError(/peers/)
    expect(() => readScenario(scenario({ mixing: { mode: 'broadcast', codec: 'int8-edge' } }))).toThrowError(
      /mixing.codec/
    )
  })
})
