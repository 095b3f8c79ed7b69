import { describe, expect, it } from 'vitest'
import { runScenario } from '../../../src/sim/run.js'
import { readScenario, type Scenario } from '../../../src/sim/world/scenario.js'

/** Eight peers that begin together and two that come after a minute, when the others have long been at the optimum. */
const late = (changes: Record<string, unknown> = {}, peer: Record<string, unknown> = {}) =>
  readScenario({
    seed: 'late',
    peers: 10,
    durationMs: 90_000,
    measureMs: 1_000,
    overlay: { kind: 'complete' },
    mixing: { codec: 'int8', clip: 0.5, localSteps: 4 },
    workload: { kind: 'quadratic', size: 16, heterogeneity: 0.2, noise: 0.02 },
    joiners: [{ count: 2, atMs: 60_000 }],
    peer: { stepMs: [200, 220], ...peer },
    ...changes
  })

/** Distance among all who are there, some seconds after the newcomers came, in terms of that before. */
async function shock(scenario: Scenario, afterMs: number) {
  const { measurements, violations, drift, counts } = await runScenario(scenario)
  expect(violations).toEqual([])
  expect(drift).toBeLessThan(1e-6)
  const at = (atMs: number) => measurements.find((one) => one.atMs === atMs)!
  expect([at(59_000).running, at(62_000).running]).toEqual([8, 10])
  return { grown: at(60_000 + afterMs).distance / at(59_000).distance, counts }
}

describe('peers that join late', () => {
  it('begin where the others are, and otherwise approach them by a radius for each exchange', async () => {
    const [caught, alone] = [await shock(late(), 3_000), await shock(late({}, { catchUp: false }), 3_000)]
    expect(caught.counts['caught up newcomer']).toBe(2)
    expect(alone.counts['caught up newcomer']).toBeUndefined()
    expect(caught.grown).toBeLessThan(1.2)
    expect(alone.grown).toBeGreaterThan(2.5)
  })

  it('look again when the first they meet are as new as they are', async () => {
    // While six groups are apart the last two, who come late, are one of them; peers 6 to 10 come with the first five.
    const scenario = late({
      peers: 12,
      joiners: [
        { count: 1, atMs: 60_000 },
        { count: 5, atMs: 1 },
        { count: 1, atMs: 60_000 }
      ],
      partitions: [{ atMs: 58_000, forMs: 5_000, groups: 6 }]
    })
    const { measurements, violations, counts } = await runScenario(scenario)
    expect(violations).toEqual([])
    expect(counts['caught up newcomer']).toBe(2)
    const at = (atMs: number) => measurements.find((one) => one.atMs === atMs)!.distance
    expect(at(62_000)).toBeGreaterThan(2 * at(57_000))
    expect(at(66_000)).toBeLessThan(1.2 * at(57_000))
  })

  it('are not led astray by two liars of five that they ask', async () => {
    // Five others and no more, so that both liars are always asked; what they say is the start, and a bit beyond.
    const scenario = late({
      peers: 6,
      attackers: [{ attack: 'ipm', count: 2 }],
      joiners: [{ count: 1, atMs: 60_000 }]
    })
    const { measurements, violations, counts } = await runScenario(scenario)
    expect(violations).toEqual([])
    expect(counts['caught up newcomer']).toBe(1)
    const at = (atMs: number) => measurements.find((one) => one.atMs === atMs)!.distance
    expect(at(60_000)).toBeGreaterThan(2 * at(59_000))
    expect(at(63_000)).toBeLessThan(1.2 * at(59_000))
  })

  it('do not take a slow start among others for being late', async () => {
    const { counts } = await runScenario(late({ joiners: [] }, { stepMs: [100, 2_000] }))
    expect(counts['caught up newcomer']).toBeUndefined()
  })

  it('go the same way again, and keep all promises through loss, cuts and crashes', async () => {
    const storm = late(
      {
        network: { loss: 0.1, cut: 0.2 },
        joiners: [{ count: 3, atMs: 20_000 }],
        attackers: [{ attack: 'ipm', count: 1 }]
      },
      { crashesPerMinute: 3, checkpointEvery: 4 }
    )
    const [one, two] = [await runScenario(storm), await runScenario(storm)]
    expect(one.violations).toEqual([])
    expect(one.counts['caught up newcomer']).toBeGreaterThan(0)
    expect(two.traceHash).toBe(one.traceHash)
  })

  it('take the sum of old updates where peers broadcast, and end with the same bits', async () => {
    const { violations, counts } = await runScenario(
      late({
        mixing: { mode: 'broadcast', codec: 'int8', localSteps: 4 },
        broadcast: { maxHeldBytes: 3_000 },
        network: { loss: 0.1 }
      })
    )
    expect(violations).toEqual([])
    expect(counts.compaction).toBeGreaterThan(50)
    expect(counts['snapshot adopted']).toBeGreaterThanOrEqual(2)
  })
})

describe('a peer that was away for an hour', () => {
  const hour = (changes: Record<string, unknown> = {}) =>
    readScenario({
      seed: 'hour',
      peers: 8,
      durationMs: 5_400_000,
      measureMs: 60_000,
      overlay: { kind: 'complete' },
      mixing: { codec: 'int8', clip: 0.5, localSteps: 4 },
      workload: { kind: 'quadratic', size: 16, heterogeneity: 0.2, noise: 0.02, learningRate: 0.01 },
      absences: [{ count: 1, atMs: 600_000, forMs: 3_600_000 }],
      peer: { stepMs: [5_000, 5_500], checkpointEvery: 2 },
      ...changes
    })

  it('looks at several others when it is back, and is among them again', async () => {
    const { measurements, violations, drift, counts } = await runScenario(hour())
    expect(violations).toEqual([])
    expect(drift).toBeLessThan(1e-6)
    expect(counts['caught up away']).toBeGreaterThanOrEqual(1)
    const at = (atMs: number) => measurements.find((one) => one.atMs === atMs)!
    expect([at(540_000).running, at(660_000).running, at(4_260_000).running]).toEqual([8, 7, 8])
    // Its distance from the others goes at once, and not by a radius for each exchange.
    expect(at(4_320_000).distance).toBeLessThan(0.5 * at(4_140_000).distance)
    const slow = await runScenario(hour({ peer: { stepMs: [5_000, 5_500], checkpointEvery: 2, catchUp: false } }))
    const slowly = (atMs: number) => slow.measurements.find((one) => one.atMs === atMs)!.distance
    expect(slowly(4_320_000)).toBeGreaterThan(0.7 * slowly(4_140_000))
  })

  it('gets what it has missed as a sum where peers broadcast', async () => {
    const { violations, counts } = await runScenario(
      hour({
        mixing: { mode: 'broadcast', codec: 'int8', localSteps: 4 },
        broadcast: { maxHeldBytes: 3_000, syncMs: 60_000 }
      })
    )
    expect(violations).toEqual([])
    expect(counts['snapshot adopted']).toBeGreaterThanOrEqual(1)
  })
})

describe('what is refused', () => {
  it.each([
    [{ peers: 4, joiners: [{ count: 3, atMs: 1 }] }, /joiners: expected at least two honest peers/],
    [{ durationMs: 10, joiners: [{ count: 1, atMs: 10 }] }, /joiners: expected to join before durationMs/],
    [{ durationMs: 10, absences: [{ atMs: 5, forMs: 6 }] }, /absences: expected to end by durationMs/],
    [{ joiners: [{ atMs: 0 }] }, /joiners\[0\].atMs: expected a whole number/]
  ])('%j', (value, message) => {
    expect(() => readScenario(value)).toThrow(message)
  })
})
