import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { type Candidate, createDiscovery } from '../../../src/gossip/discovery/discovery.js'
import { createVirtualClock } from '../virtual-clock.js'

const candidate = (peer: string): Candidate => ({ peer, addresses: [`/ip4/10.0.0.1/tcp/1/p2p/${peer}`] })

function harness(options: {
  target: number
  names: readonly string[]
  remembered?: readonly string[]
  dead?: readonly string[]
}) {
  const clock = createVirtualClock()
  const connected = new Set<string>()
  const dials: string[] = []
  let walks = 0
  let parallel = 0
  let mostParallel = 0
  const discovery = createDiscovery({
    self: 'me',
    target: options.target,
    useful: () => connected.size,
    connected: () => [...connected],
    walk: async () => {
      walks++
      return options.names.map(candidate)
    },
    dial: async ({ peer }) => {
      dials.push(peer)
      mostParallel = Math.max(mostParallel, ++parallel)
      await clock.sleep(10)
      parallel--
      const ok = options.dead?.includes(peer) !== true
      if (ok) connected.add(peer)
      return ok
    },
    remembered: (options.remembered ?? []).map(candidate),
    clock,
    rng: seededRng('discovery'),
    log: silentLogger,
    minIntervalMs: 100,
    maxIntervalMs: 5_000
  })
  const stop = new AbortController()
  const done = discovery.run(stop.signal)
  return { clock, connected, dials, discovery, stop, done, walks: () => walks, mostParallel: () => mostParallel }
}

describe('discovery', () => {
  it('does not walk before anybody is connected, then connects up to the target', async () => {
    const names = ['me', ...Array.from({ length: 30 }, (_, i) => `p${i}`)]
    const { clock, connected, dials, walks, mostParallel, stop, done } = harness({ target: 12, names })
    await clock.advance(1_000)
    expect([walks(), dials.length]).toEqual([0, 0])
    connected.add('p3')
    await clock.advance(60_000)
    expect(connected.size).toBe(12)
    expect(dials).not.toContain('me')
    expect(dials).not.toContain('p3')
    expect(new Set(dials).size).toBe(dials.length)
    expect(mostParallel()).toBeLessThanOrEqual(8)
    stop.abort()
    await done
  })

  it('tries remembered peers first, and leaves dead ones alone for a while', async () => {
    const { clock, dials, stop, done } = harness({
      target: 5,
      names: [],
      remembered: ['a', 'b', 'c'],
      dead: ['a', 'b', 'c']
    })
    await clock.advance(20)
    expect([...dials].sort()).toEqual(['a', 'b', 'c'])
    await clock.advance(4_000)
    expect(dials).toHaveLength(3)
    await clock.advance(60_000)
    expect(dials.length).toBeGreaterThan(6)
    expect(dials.length).toBeLessThan(60)
    stop.abort()
    await done
  })

  it('walks rarely when nobody new is found, and soon again after a loss', async () => {
    const { clock, connected, walks, discovery, stop, done } = harness({ target: 5, names: [] })
    connected.add('only')
    await clock.advance(120_000)
    const quiet = walks()
    expect(quiet).toBeGreaterThan(20)
    expect(quiet).toBeLessThan(70)
    discovery.changed()
    await clock.advance(200)
    expect(walks()).toBeGreaterThan(quiet)
    stop.abort()
    await done
  })
})
