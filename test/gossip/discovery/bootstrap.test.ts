import { describe, expect, it } from 'vitest'
import type { Logger } from '../../../src/base/log.js'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { createBootstrap, delayMs } from '../../../src/gossip/discovery/bootstrap.js'
import type { ConnectOutcome } from '../../../src/gossip/transport.js'
import { createVirtualClock } from '../virtual-clock.js'

const refused = (address: string): ConnectOutcome => ({
  ok: false,
  code: 'connection-refused',
  address,
  detail: `Nothing listens at ${address}`
})

function harness(answer: (address: string, attempt: number) => ConnectOutcome, addresses = ['/a']) {
  const clock = createVirtualClock()
  const start = clock.now()
  const dials: { address: string; at: number }[] = []
  const connected = new Set<string>()
  const warnings: string[] = []
  const log: Logger = { ...silentLogger, warn: (_facts, message) => warnings.push(message) }
  const bootstrap = createBootstrap({
    addresses,
    connect: async (address) => {
      const outcome = answer(address, dials.filter((dial) => dial.address === address).length)
      dials.push({ address, at: clock.now() - start })
      if (outcome.ok) connected.add(outcome.peer)
      return outcome
    },
    connected: () => [...connected],
    clock,
    rng: seededRng('bootstrap'),
    log,
    firstDelayMs: 1_000,
    maxDelayMs: 8_000,
    stableMs: 60_000
  })
  const stop = new AbortController()
  const done = bootstrap.run(stop.signal)
  return { clock, dials, connected, warnings, bootstrap, stop, done }
}

describe('bootstrap', () => {
  it('dials for ever, at most maxDelay apart, and warns once', async () => {
    const { clock, dials, bootstrap, warnings, stop, done } = harness(refused)
    await clock.advance(100_000)
    const gaps = dials.slice(1).map(({ at }, i) => at - (dials[i]?.at ?? 0))
    // 1, 2, 4, 8, 8, ... seconds, each between half and all of it.
    for (const [i, gap] of gaps.entries()) {
      const full = Math.min(8_000, 1_000 * 2 ** i)
      expect(gap).toBeGreaterThanOrEqual(full / 2)
      expect(gap).toBeLessThanOrEqual(full)
    }
    expect(dials.length).toBeGreaterThan(14)
    expect(warnings).toEqual(['Nothing listens at /a'])
    expect(bootstrap.diagnosis()).toMatchObject([
      { address: '/a', state: 'waiting', attempts: dials.length, lastFailure: { code: 'connection-refused' } }
    ])
    stop.abort()
    await done
  })

  it('rests once connected, and dials again at once when every peer is lost', async () => {
    const { clock, dials, connected, bootstrap, stop, done } = harness((address, attempt) =>
      attempt === 1 || attempt > 2 ? { ok: true, peer: 'p' } : refused(address)
    )
    await clock.advance(100_000)
    expect(dials).toHaveLength(2)
    expect(bootstrap.diagnosis()).toMatchObject([{ state: 'connected' }])
    connected.clear()
    bootstrap.peerLost()
    await clock.advance(0)
    expect(dials).toHaveLength(3)
    await clock.advance(1_000)
    expect(dials).toHaveLength(4)
    expect(bootstrap.diagnosis()).toMatchObject([{ state: 'connected' }])
    stop.abort()
    await done
  })

  it('comes back to a lost bootstrap node while other peers remain, without hammering one that keeps closing', async () => {
    const { clock, dials, connected, bootstrap, stop, done } = harness(() => ({ ok: true, peer: 'p' }))
    connected.add('other')
    await clock.advance(1)
    for (let round = 0; round < 20; round++) {
      connected.delete('p')
      bootstrap.peerLost()
      await clock.advance(1_000)
    }
    // 20 losses in 20 s: with a doubling delay only a handful of dials.
    expect(dials.length).toBeGreaterThanOrEqual(4)
    expect(dials.length).toBeLessThanOrEqual(7)
    stop.abort()
    await done
  })

  it('keeps each address apart, and gives up only what can never work', async () => {
    const answers: Record<string, ConnectOutcome> = {
      '/own': { ok: false, code: 'self', address: '/own', detail: 'this node' },
      '/bad': { ok: false, code: 'bad-address', address: '/bad', detail: 'no multiaddr' },
      '/up': { ok: true, peer: 'up' }
    }
    const { clock, dials, bootstrap, stop, done } = harness(
      (address) => answers[address] ?? refused(address),
      ['/own', '/bad', '/up', '/down']
    )
    await clock.advance(30_000)
    expect(bootstrap.diagnosis().map(({ state }) => state)).toEqual(['self', 'bad-address', 'connected', 'waiting'])
    expect(dials.filter(({ address }) => address !== '/down')).toHaveLength(3)
    stop.abort()
    await done
  })

  it('computes the delay from attempts, cap and jitter', () => {
    const rng = { ...seededRng('x'), uniform: () => 0.5 }
    expect([1, 2, 3, 7, 60].map((attempts) => delayMs(attempts, { rng }))).toEqual([375, 750, 1_500, 22_500, 22_500])
  })
})
