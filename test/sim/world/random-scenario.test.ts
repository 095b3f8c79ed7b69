import { describe, expect, it } from 'vitest'
import { randomBroadcastScenario, randomScenario } from '../../../src/sim/world/random-scenario.js'
import { runScenario } from '../../../src/sim/run.js'
import type { Scenario } from '../../../src/sim/world/scenario.js'
import { BROADCAST_SCENARIOS, SCENARIOS } from '../../counts.js'

/** Scenarios of one test: a busy machine has ten times as long for them as an idle one needs. */
const SLICE = { pairs: 50, broadcasts: 10 } as const

const slices = (count: number, each: number): readonly number[] =>
  Array.from({ length: count / each }, (_, i) => i * each)

/** Seeds from `first` on, and what happened how often in all slices. */
async function play(first: number, count: number, make: (seed: string) => Scenario, seen: Record<string, number>) {
  const failing: string[] = []
  for (let seed = first; seed < first + count; seed++) {
    const { violations, counts } = await runScenario(make(String(seed)))
    for (const [what, times] of Object.entries(counts)) seen[what] = (seen[what] ?? 0) + times
    if (violations.length > 0) failing.push(`seed ${seed}: ${violations.map(({ code }) => code).join(', ')}`)
  }
  return failing
}

describe('random scenarios', () => {
  const seen: Record<string, number> = {}

  it.each(slices(SCENARIOS, SLICE.pairs))(
    'from %i on break no promise: both or neither, never twice, the weighted mean kept, everything finite and bounded',
    async (first) => {
      expect(await play(first, SLICE.pairs, randomScenario, seen)).toEqual([])
    }
  )

  it('do what they are for: exchanges end in every way there is', () => {
    for (const what of ['crash', 'undone', 'initiator in-doubt', 'initiator yielded', 'responder committed'])
      expect(seen[what], what).toBeGreaterThan(400)
    for (const what of ['verdict codec/not-finite', 'verdict exchange/timeout', 'verdict exchange/unexpected-message'])
      expect(seen[what], what).toBeGreaterThan(10)
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
})

describe('scenarios that once failed', () => {
  it.each([
    // Large values took honest peers to where their codec could not send them any more.
    ['1160', randomScenario],
    // What had come early went on waiting behind a sum that it follows.
    ['21188', randomBroadcastScenario],
    // One silent liar of four kept a peer from believing a sum.
    ['21537', randomBroadcastScenario]
  ] as const)('%s', async (seed, make) => {
    expect((await runScenario(make(seed))).violations).toEqual([])
  })
})

describe('random broadcasts', () => {
  const seen: Record<string, number> = {}

  it.each(slices(BROADCAST_SCENARIOS, SLICE.broadcasts))(
    'from %i on end with the same bits at every honest peer',
    async (first) => {
      expect(await play(first, SLICE.broadcasts, randomBroadcastScenario, seen)).toEqual([])
    }
  )

  it('do what they are for: updates are compacted, lost, doubled, and equivocations seen', () => {
    for (const what of ['crash', 'compaction', 'verdict broadcast/duplicate'])
      expect(seen[what], what).toBeGreaterThan(100)
    expect(seen.equivocation).toBeGreaterThan(10)
  })
})
