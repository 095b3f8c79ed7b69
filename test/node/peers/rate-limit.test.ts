import { describe, expect, it } from 'vitest'
import { rateLimit } from '../../../src/node/peers/rate-limit.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'

describe('rateLimit', () => {
  it('lets a burst pass, then as many as the rate, each key for itself', async () => {
    const clock = createVirtualClock()
    const may = rateLimit(clock, { burst: 3, perSecond: 2, maxKeys: 10 })
    expect([may('a'), may('a'), may('a'), may('a')]).toEqual([true, true, true, false])
    expect(may('b')).toBe(true)
    await clock.advance(499)
    expect(may('a')).toBe(false)
    await clock.advance(1)
    expect([may('a'), may('a')]).toEqual([true, false])
    await clock.advance(1e6)
    expect([may('a'), may('a'), may('a'), may('a')]).toEqual([true, true, true, false])
  })

  it('forgets the key unused for longest beyond its bound', () => {
    const may = rateLimit(createVirtualClock(), { burst: 1, perSecond: 0, maxKeys: 2 })
    expect([may('a'), may('b'), may('a'), may('c')]).toEqual([true, true, false, true])
    expect(may('a')).toBe(false)
    expect(may('b')).toBe(true)
  })
})
