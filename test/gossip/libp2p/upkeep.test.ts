import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import type { Node } from '../../../src/gossip/libp2p/config.js'
import { createIdentity, peerIdOf } from '../../../src/gossip/libp2p/identity.js'
import { keepUp, type Upkeep } from '../../../src/gossip/libp2p/upkeep.js'
import { DEAD_PEER_MS } from '../../../src/gossip/limits.js'
import { createVirtualClock } from '../virtual-clock.js'

describe('upkeep', () => {
  it('drops a peer that sends nothing, not even answers to pings, and keeps one that does', async () => {
    const clock = createVirtualClock()
    const [alive, dead] = [peerIdOf(await createIdentity()), peerIdOf(await createIdentity())]
    const start = clock.now()
    const dropped: [string, number][] = []
    const connected = new Set([alive, dead])
    const connection = (peer: string) => ({
      abort: () => {
        dropped.push([peer, clock.now() - start])
        connected.delete(peer)
      }
    })
    const upkeep: Upkeep = {
      node: { getConnections: (peer: unknown) => [connection(String(peer))] } as unknown as Node,
      self: alive,
      dialer: { dialCandidate: async () => false } as unknown as Upkeep['dialer'],
      meter: {
        lastReceivedAt: (peer: string) => (peer === alive ? clock.now() - 9_000 : start)
      } as Upkeep['meter'],
      knownPeersPath: undefined,
      target: 0,
      useful: () => 0,
      connected: () => [...connected],
      onDiscovery: () => undefined,
      clock,
      rng: seededRng('upkeep'),
      log: silentLogger
    }
    const stop = new AbortController()
    const done = keepUp(upkeep, stop.signal)
    await clock.advance(DEAD_PEER_MS - 1)
    expect(dropped).toEqual([])
    await clock.advance(300_000)
    expect(dropped).toEqual([[dead, DEAD_PEER_MS]])
    stop.abort()
    await done
  })
})
