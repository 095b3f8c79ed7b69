import { describe, expect, it } from 'vitest'
import { randomBroadcastScenario, randomScenario } from '../../src/sim/random-scenario.js'
import { runScenario } from '../../src/sim/run.js'

/** Of broadcasts: each takes as long as several of the others. */
const BROADCAST_SCENARIOS = 12

/** Random scenarios in every test run; `npm run bench -- scenarios` does thousands. */
const SCENARIOS = 200

describe('random scenarios', () => {
  it('break no promise: both or neither, never twice, the weighted mean kept, everything finite and bounded', async () => {
    const seen: Record<string, number> = {}
    const failing: string[] = []
    for (let seed = 0; seed < SCENARIOS; seed++) {
      const { violations, counts } = await runScenario(randomScenario(String(seed)))
      for (const [what, count] of Object.entries(counts)) seen[what] = (seen[what] ?? 0) + count
      if (violations.length > 0) failing.push(`seed ${seed}: ${violations.map(({ code }) => code).join(', ')}`)
    }
    expect(failing).toEqual([])
    // They do what they are for: exchanges end in every way there is.
    for (const what of ['crash', 'undone', 'initiator in-doubt', 'initiator yielded', 'responder committed'])
      expect(seen[what], what).toBeGreaterThan(100)
  })

  it('go the same way again, to the last bit of every peer, and another way with another seed', async () => {
    for (const seed of ['3', '12', '20']) {
      const lines: string[][] = [[], []]
      const [one, two] = await Promise.all(
        lines.map((trace) => runScenario(randomScenario(seed), { onTrace: (line) => trace.push(line) }))
      )
      expect(lines[0]!.length).toBeGreaterThan(100)
      expect(lines[0]).toEqual(lines[1])
      expect(one!.traceHash).toBe(two!.traceHash)
      expect({ ...one, measurements: [] }).toEqual({ ...two, measurements: [] })
    }
    const [three, four] = await Promise.all(['3', '4'].map((seed) => runScenario(randomScenario(seed))))
    expect(three!.traceHash).not.toBe(four!.traceHash)
  })

  it('of broadcasts end with the same bits at every honest peer', async () => {
    const failing: string[] = []
    for (let seed = 0; seed < BROADCAST_SCENARIOS; seed++) {
      const { violations } = await runScenario(randomBroadcastScenario(String(seed)))
      if (violations.length > 0) failing.push(`seed ${seed}: ${violations.map(({ code }) => code).join(', ')}`)
    }
    expect(failing).toEqual([])
  })
})
