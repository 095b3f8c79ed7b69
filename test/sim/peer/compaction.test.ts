import { describe, expect, it } from 'vitest'
import { runScenario } from '../../../src/sim/run.js'
import { readScenario } from '../../../src/sim/world/scenario.js'

const scenario = (changes: Record<string, unknown> = {}) =>
  readScenario({
    seed: 'folding',
    peers: 7,
    durationMs: 40_000,
    measureMs: 40_000,
    overlay: { kind: 'complete' },
    mixing: { mode: 'broadcast', codec: 'int8', localSteps: 4 },
    broadcast: { maxHeldBytes: 2_000, resumeAt: 'own' },
    workload: { kind: 'quadratic', size: 12, samples: [50, 150] },
    peer: { checkpointEvery: 2 },
    ...changes
  })

describe('compaction of old updates in the simulator', () => {
  it('leaves every replica the sum of all updates, to the last bit, through loss and crashes', async () => {
    const { violations, counts, updates } = await runScenario(
      scenario({ network: { loss: 0.2, cut: 0.2 }, peer: { checkpointEvery: 2, crashesPerMinute: 4 } })
    )
    expect(violations).toEqual([])
    expect(counts.compaction).toBeGreaterThan(50)
    expect(counts.crash).toBeGreaterThan(5)
    // 230 bytes each: with all of them held nobody would have compacted so often.
    expect(updates).toBeGreaterThan(100)
  })

  it.each([2, 3])('gives its snapshot to two newcomers at once, of %i that have it', async (founders) => {
    // Two newcomers can confirm nothing to each other: they say so, and those that can tell are enough.
    const joiners = [{ count: 2, atMs: 30_000 }]
    const { violations, counts } = await runScenario(scenario({ peers: founders + 2, joiners }))
    expect(violations).toEqual([])
    expect(counts['snapshot adopted']).toBeGreaterThanOrEqual(2)
  })

  it('makes no two snapshots in a network that is cut in two', async () => {
    // Neither half is two thirds: what each has written meanwhile is kept one by one, and told once they meet again.
    const { violations, counts } = await runScenario(
      scenario({ partitions: [{ atMs: 2_000, forMs: 38_000, groups: 2 }] })
    )
    expect(violations).toEqual([])
    expect(counts['snapshot adopted'] ?? 0).toBe(0)
    const whole = await runScenario(scenario())
    expect(counts.compaction).toBeLessThan(0.2 * whole.counts.compaction!)
  })
})
