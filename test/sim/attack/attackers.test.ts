import { describe, expect, it } from 'vitest'
import { createProblem } from '../../../src/sim/workload/workload.js'
import { runScenario } from '../../../src/sim/run.js'
import { type Attack, readScenario } from '../../../src/sim/world/scenario.js'

/** Eight honest peers and two liars on a problem whose best answer is known; the liars' data are part of it. */
const scenarioOf = (attack: Attack, clip: number) =>
  readScenario({
    seed: 'harm',
    peers: 10,
    durationMs: 100_000,
    measureMs: 100_000,
    overlay: { kind: 'complete' },
    mixing: { clip, localSteps: 2, totalSteps: 300, settleExchanges: 12 },
    workload: { kind: 'quadratic', size: 10, heterogeneity: 0.3, samples: [80, 120] },
    attackers: [{ attack, count: 2 }]
  })

/** Loss of the honest peers' mean above the best. */
async function excess(attack: Attack, clip: number): Promise<number> {
  const { measurements, violations, drift } = await runScenario(scenarioOf(attack, clip))
  expect(violations).toEqual([])
  // The mean is where steps and liars have put it: exchanges among the honest add nothing.
  expect(drift).toBeLessThan(1e-5)
  return measurements.at(-1)!.excessLoss
}

describe('attackers on a known problem', () => {
  it.each(['sign-flip', 'ipm', 'dissensus', 'label-flip', 'sybil', 'stale-replay'] as const)(
    '%s hurts whoever follows everybody, and less whoever clips',
    async (attack) => {
      const [quiet, plain, clipped] = [await excess('silence', 0), await excess(attack, 0), await excess(attack, 0.5)]
      expect(plain).toBeGreaterThan(2.5 * quiet)
      expect(clipped).toBeLessThan(0.4 * plain)
    }
  )

  it.each(['alie', 'mimic'] as const)(
    '%s says what honest peers might say: little harm, clipped or not',
    async (attack) => {
      const quiet = await excess('silence', 0)
      for (const clip of [0, 0.5]) expect(await excess(attack, clip)).toBeLessThan(1.5 * quiet)
    }
  )

  it('gaussian noise has no direction: it drives the honest apart, and clipping keeps them together', async () => {
    const apart = async (clip: number) =>
      (await runScenario(scenarioOf('gaussian', clip))).measurements.at(-1)!.distance
    // One number of ten has a deviation of 1, and exchanges take half of it.
    expect(await apart(0)).toBeGreaterThan(0.5)
    expect(await apart(0.5)).toBeLessThan(0.05)
  })

  it('mimic makes the peer that it mimics count more often', async () => {
    const scenario = readScenario({
      seed: 'mimic',
      peers: 4,
      durationMs: 200_000,
      overlay: { kind: 'complete' },
      mixing: { codec: 'float32' },
      workload: { size: 6, samples: [100, 100] },
      attackers: [{ attack: 'mimic', count: 2 }]
    })
    const { begin } = createProblem(scenario)
    const { mean, distance } = (await runScenario(scenario)).measurements.at(-1)!
    const [mimicked, other] = [0, 1].map((peer) => {
      const start = new Float32Array(6)
      begin(peer, start)
      return Math.hypot(...start.map((value, k) => value - mean[k]!))
    })
    expect(distance).toBeLessThan(1e-3)
    // Alone they would meet half way; the other one meets two more that stand where the mimicked one does.
    expect(mimicked!).toBeLessThan(0.7 * other!)
  })

  it.each(['gaussian', 'alie', 'sybil', 'label-flip'] as const)('%s goes the same way again', async (attack) => {
    const once = async () => (await runScenario({ ...scenarioOf(attack, 0.5), durationMs: 20_000 })).traceHash
    expect(await once()).toBe(await once())
  })

  it('a sybil is never met twice by one name', async () => {
    const lines: string[] = []
    await runScenario({ ...scenarioOf('sybil', 0), durationMs: 30_000 }, { onTrace: (line) => lines.push(line) })
    // Committed exchanges as their initiator or responder hears of them, by the liar's name.
    const met = lines.flatMap((line) => line.match(/ commit from (p0000[89]\S*)/)?.[1] ?? [])
    expect(met.length).toBeGreaterThan(5)
    expect(new Set(met).size).toBe(met.length)
  })

  it('flips labels of what the liar learns, not of what is measured', () => {
    const parts = { peers: 5, workload: { kind: 'logistic', size: 6, noise: 0, samples: [40, 40] } }
    const lying = readScenario({ ...parts, attackers: [{ attack: 'label-flip', count: 1 }] })
    const [honest, liar] = [createProblem(readScenario(parts)), createProblem(lying)]
    expect(liar.optimum).toEqual(honest.optimum)
    // From the origin the gradient of the log loss is of (1/2 - y) x: flipped labels turn its sign, the ridge is nothing there.
    const stepOf = ({ step }: typeof honest, peer: number) => {
      const x = new Float32Array(6)
      step(peer, x, { learningRate: 1, rng: { integer: (n: number) => 3 % n } as never })
      return [...x]
    }
    expect(stepOf(liar, 4)).toEqual(stepOf(honest, 4).map((value) => -value))
    expect(stepOf(liar, 3)).toEqual(stepOf(honest, 3))
  })

  it.each([
    [{ attackers: [{ attack: 'label-flip', count: 1 }] }, /attackers: expected a workload with labels/],
    [{ attackers: [{ attack: 'gradient-assembly', count: 1 }] }, /attackers: expected workload.kind trained/],
    [
      { attackers: [{ attack: 'sybil', count: 1 }], mixing: { mode: 'broadcast' }, overlay: { kind: 'ring' } },
      /attackers: expected mixing.mode pairwise/
    ]
  ])('%j is refused', (value, message) => {
    expect(() => readScenario(value)).toThrow(message)
  })
})
