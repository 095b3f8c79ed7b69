import { describe, expect, it } from 'vitest'
import { MAX_MESSAGE_BYTES } from '../../../src/codec/wire/wire.js'
import { createPeerBudget, MESSAGES_PER_EXCHANGE } from '../../../src/node/peers/peer-budget.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'

describe('the budget of a peer', () => {
  const limits = { helloBurst: 3, hellosPerSecond: 2, payloadBytes: 1000 }

  it('covers what the exchanges it may ask for need, and no more', async () => {
    const clock = createVirtualClock()
    const budget = createPeerBudget(clock, limits)
    expect([1, 2, 3, 4].map(() => budget.hello('a'))).toEqual([true, true, true, false])
    for (let i = 0; i < 3 * MESSAGES_PER_EXCHANGE; i++) expect(budget.message('a')).toBeUndefined()
    expect(budget.message('a')).toMatchObject({ verdict: 'reject', code: 'exchange/over-message-budget' })
    const perExchange = 1000 + MESSAGES_PER_EXCHANGE * MAX_MESSAGE_BYTES
    expect(budget.bytes('a', 3 * perExchange)).toBeUndefined()
    expect(budget.bytes('a', 1)).toMatchObject({ verdict: 'reject', code: 'exchange/over-byte-budget' })
    expect(budget.bytes('b', 1)).toBeUndefined()
    await clock.advance(500)
    expect(budget.hello('a')).toBe(true)
    expect(budget.bytes('a', perExchange)).toBeUndefined()
    expect(budget.bytes('a', 1)).toBeDefined()
  })
})
