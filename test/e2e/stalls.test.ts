import { describe, expect, it } from 'vitest'
import { createStallWatch } from '../../scripts/testnet/stalls.js'
import type { Status } from '../../src/status/snapshot.js'

const OTHER = { peerId: 'b', phase: 'training' } as Status

function status(done: number, lastExchangeAtMs: number, phase: Status['phase'] = 'training', connected = true): Status {
  const peers = [{ peerId: 'b', connected, sameFederation: true, lastExchangeAtMs, exchanges: 1 }]
  return { peerId: 'a', phase, steps: { done, total: 100, perSecond: 1 }, peers } as unknown as Status
}

describe('how long a peer stands still', () => {
  it('counts from when an exchange is due to when it is made, and not the steps between two', () => {
    const watch = createStallWatch(10)
    watch.look(status(0, 1_000), [OTHER], 1_000)
    watch.look(status(9, 1_000), [OTHER], 61_000)
    expect(watch.read()).toEqual({ exchangeMs: 0, stepMs: 60_000 })
    watch.look(status(10, 1_000), [OTHER], 70_000)
    watch.look(status(12, 1_000), [OTHER], 73_000)
    expect(watch.read().exchangeMs).toBe(3_000)
    watch.look(status(13, 74_500), [OTHER], 75_000)
    expect(watch.read().exchangeMs).toBe(4_500)
    watch.look(status(22, 74_500), [OTHER], 90_000)
    expect(watch.read().exchangeMs).toBe(4_500)
  })

  it('counts nothing while nobody is there, after the last step, and while the peer is down', () => {
    const watch = createStallWatch(5)
    watch.look(status(0, 1_000), [OTHER], 1_000)
    watch.look(status(8, 1_000, 'training', false), [OTHER], 2_000)
    watch.look(status(9, 1_000, 'training', false), [OTHER], 40_000)
    watch.look(status(10, 1_000), [{ ...OTHER, phase: 'done' }], 41_000)
    watch.down()
    watch.look(status(4, 1_000), [OTHER], 99_000)
    watch.look(status(100, 1_000, 'settling'), [OTHER], 100_000)
    watch.look(status(100, 1_000, 'settling'), [OTHER], 200_000)
    expect(watch.read()).toEqual({ exchangeMs: 0, stepMs: 38_000 })
  })
})
