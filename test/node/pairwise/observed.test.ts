import { describe, expect, it } from 'vitest'
import { encodeExchangeMessage } from '../../../src/codec/wire/wire.js'
import { EXCHANGE_PROTOCOL } from '../../../src/gossip/topics.js'
import { MESSAGES_PER_EXCHANGE } from '../../../src/node/peers/peer-budget.js'
import { distance2 } from '../../../src/tensor/linear.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'
import { exchangeWorld } from './exchange-world.js'

describe('what exchanges show', () => {
  it('is the distance to the partner before mixing, alike on both sides', async () => {
    const world = exchangeWorld({ seed: 'observed', codec: 'float32' })
    const [a, b] = [await world.member('a', 3), await world.member('b', 5)]
    await world.network.connectAll()
    expect(a.driver.stats().observed).toEqual({ exchanges: 0, clipped: 0, onEdge: 0 })
    const apart = distance2(a.live, b.live)
    await a.driver.exchangeWith('b')
    const seen = a.driver.lastExchange('b')?.observed
    expect(seen).toEqual({ distance: expect.closeTo(apart, 5), scale: 1, turns: 0 })
    expect(b.driver.lastExchange('a')?.observed).toEqual(seen)
    expect(a.driver.stats().observed).toEqual({ exchanges: 1, clipped: 0, onEdge: 0, distance: seen!.distance })
    await b.driver.exchangeWith('a')
    // An average over about ten: a tenth of the way to the new distance, which is nearly nothing.
    expect(a.driver.stats().observed.distance).toBeCloseTo(0.9 * apart, 3)
  })

  it('says how many exchanges had a memory to go by', async () => {
    const world = exchangeWorld({ seed: 'edges', codec: 'int4-edge' })
    const [a] = [await world.member('a', 3), await world.member('b', 5)]
    await world.network.connectAll()
    for (let i = 0; i < 3; i++) expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'committed' })
    expect(a.driver.stats().observed).toMatchObject({ exchanges: 3, onEdge: 2 })
    expect(a.driver.lastExchange('b')?.observed?.turns).toBe(2)
  })
})

describe('a codec whose length varies', () => {
  it('crosses the channels of the driver', async () => {
    const world = exchangeWorld({ seed: 'sparse', codec: 'topk-edge' })
    const [a, b] = [await world.member('a', 3), await world.member('b', 5)]
    await world.network.connectAll()
    const before = distance2(a.live, b.live)
    for (let i = 0; i < 40; i++) expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'committed' })
    expect(distance2(a.live, b.live)).toBeLessThan(before / 2)
  })
})

describe('a peer that says more than exchanges ask for', () => {
  it('is cut off and pays for it', async () => {
    const clock = createVirtualClock()
    const world = exchangeWorld({ seed: 'flood', clock, limits: { helloBurst: 2, hellosPerSecond: 0 } })
    const victim = await world.member('victim', 3)
    const mallory = world.network.join({ name: 'mallory' })
    await mallory.start()
    await world.network.connectAll()
    const channel = await mallory.open('victim', EXCHANGE_PROTOCOL)
    const resolve = encodeExchangeMessage({ type: 'resolve', exchangeId: 'ab'.repeat(16) })
    for (let i = 0; i <= 2 * MESSAGES_PER_EXCHANGE; i++) await channel.send(resolve).catch(() => undefined)
    await clock.advance(1)
    expect(victim.verdicts).toContainEqual({
      peer: 'mallory',
      verdict: expect.objectContaining({ verdict: 'reject', code: 'exchange/over-message-budget' })
    })
  })
})
