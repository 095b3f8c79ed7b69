import { describe, expect, it } from 'vitest'
import { ACCEPT, reject } from '../../../src/base/verdict.js'
import { createMemoryNetwork, type MemoryFaults } from '../../../src/gossip/memory/memory.js'
import type { Transport } from '../../../src/gossip/transport.js'
import { createVirtualClock, type VirtualClock } from '../virtual-clock.js'

const PROTOCOL = '/test/1'
const bytesOf = (text: string) => new TextEncoder().encode(text)
const failsWith = (code: string) => expect.objectContaining({ code })

async function members(count: number, options: { seed?: string; faults?: MemoryFaults } = {}) {
  const clock = createVirtualClock()
  const network = createMemoryNetwork({ seed: 'memory', clock, ...options })
  const peers: Transport[] = []
  for (let i = 0; i < count; i++) {
    const peer = network.join({ name: `p${i}` })
    await peer.start()
    peers.push(peer)
  }
  const connected = network.connectAll()
  await clock.advance(60_000)
  await connected
  return { clock, network, peers }
}

/** Sends frames until the link breaks, and tells how many went out and came in. */
async function pump(a: Transport, b: Transport, clock: VirtualClock, frames: number) {
  const received: number[] = []
  const outcome = { sent: 0, answerer: 'open', opener: 'open' }
  b.handle(PROTOCOL, async (channel) => {
    for (;;) {
      const frame = await channel.receive().catch((error: { code: string }) => {
        outcome.answerer = error.code
        return undefined
      })
      if (frame === undefined) return
      received.push(frame[0] ?? -1)
      await channel.send(frame).catch(() => undefined)
    }
  })
  const channel = await a.open(b.self, PROTOCOL)
  const run = async () => {
    for (let i = 0; i < frames; i++) {
      await channel.send(Uint8Array.of(i))
      outcome.sent++
      await channel.receive()
    }
    await channel.close()
  }
  const done = run().catch((error: { code: string }) => {
    outcome.opener = error.code
  })
  await clock.advance(200_000)
  await done
  return { ...outcome, received }
}

describe('planned faults', () => {
  it('cuts a channel after the planned frames from the opener: the next is lost though its send resolves', async () => {
    const { clock, network, peers } = await members(2)
    const [a, b] = peers as [Transport, Transport]
    network.cut({ from: 'p0', to: 'p1', afterFrames: 3 })
    expect(await pump(a, b, clock, 10)).toMatchObject({
      sent: 4,
      received: [0, 1, 2],
      opener: 'gossip/channel-broken',
      answerer: 'gossip/channel-broken'
    })
  })

  it('cuts the other direction, only the planned protocol, only so many channels', async () => {
    const { clock, network, peers } = await members(2)
    const [a, b] = peers as [Transport, Transport]
    network.cut({ from: 'p1', to: 'p0', protocol: '/another', afterFrames: 0 })
    network.cut({ from: 'p1', to: 'p0', protocol: PROTOCOL, afterFrames: 2 })
    expect(await pump(a, b, clock, 10)).toMatchObject({ sent: 3, received: [0, 1, 2], opener: 'gossip/channel-broken' })
    const again = await a.open('p1', PROTOCOL)
    for (let i = 0; i < 5; i++) {
      await again.send(Uint8Array.of(i))
      expect(await again.receive()).toEqual(Uint8Array.of(i))
    }
    await again.close()
  })

  it('separates partitions and heals', async () => {
    const { clock, network, peers } = await members(4)
    const left: string[] = []
    peers[0]?.on('disconnect', (peer) => left.push(peer))
    peers[2]?.handle(PROTOCOL, async (channel) => void (await channel.receive()))
    const across = await (peers[0] as Transport).open('p2', PROTOCOL)
    network.partition([
      ['p0', 'p1'],
      ['p2', 'p3']
    ])
    expect(peers.map((peer) => peer.connected())).toEqual([['p1'], ['p0'], ['p3'], ['p2']])
    expect(left).toEqual(['p2', 'p3'])
    await expect(across.receive()).rejects.toEqual(failsWith('gossip/channel-broken'))
    expect(await peers[0]?.connect('/memory/p2')).toMatchObject({ ok: false, code: 'timeout' })
    network.heal()
    await network.connectAll()
    await clock.advance(1)
    expect(peers.map((peer) => peer.connected().length)).toEqual([3, 3, 3, 3])
  })

  it('refuses and accepts connections again, and knows network keys', async () => {
    const clock = createVirtualClock()
    const network = createMemoryNetwork({ seed: 'keys', clock })
    const [a, b] = [network.join({ name: 'a', networkKey: 'red' }), network.join({ name: 'b', networkKey: 'blue' })]
    await a.start()
    expect(await a.connect('/memory/b')).toMatchObject({ code: 'connection-refused' })
    await b.start()
    expect(await a.connect('/memory/b')).toMatchObject({ code: 'wrong-network-key' })
    const c = network.join({ name: 'c', networkKey: 'red' })
    await c.start()
    network.refuse('c')
    expect(await a.connect('/memory/c')).toMatchObject({ code: 'connection-refused' })
    network.refuse('c', false)
    expect(await a.connect('/memory/c')).toEqual({ ok: true, peer: 'c' })
  })

  it('lets a member come back under its name', async () => {
    const { clock, network, peers } = await members(2)
    await peers[1]?.stop()
    const back = network.join({ name: 'p1' })
    await back.start()
    expect(await peers[0]?.connect('/memory/p1/p2p/p1')).toEqual({ ok: true, peer: 'p1' })
    await clock.advance(1)
    expect(back.connected()).toEqual(['p0'])
  })
})

/** Who heard what, how often, with losses and duplicates on every hop. */
async function rumours(seed: string, faults: MemoryFaults) {
  const { clock, network, peers } = await members(5, { seed, faults })
  const heard: string[] = []
  for (const peer of peers) {
    peer.subscribe(
      't',
      (_from, bytes) => (bytes.length > 3 ? reject('test/long') : ACCEPT),
      (from, bytes) => heard.push(`${peer.self} ${from} ${new TextDecoder().decode(bytes)} ${clock.now()}`)
    )
  }
  for (let i = 0; i < 20; i++) await peers[i % 5]?.publish('t', bytesOf(`m${i}`))
  await clock.advance(60_000)
  return { heard, network, clock, peers }
}

describe('random faults', () => {
  it('happen again from the same seed, and differently from another', async () => {
    const faults = { latencyMs: [5, 300], announcementLoss: 0.3, announcementDuplication: 0.2 } as const
    const [first, second, other] = [
      await rumours('one', faults),
      await rumours('one', faults),
      await rumours('two', faults)
    ]
    expect(first.heard).toEqual(second.heard)
    expect(first.heard).not.toEqual(other.heard)
  })

  it('lose and repeat announcements', async () => {
    // Nothing lost: 20 announcements reach the four others once each.
    expect((await rumours('x', {})).heard).toHaveLength(80)
    expect((await rumours('x', { announcementDuplication: 0.5 })).heard.length).toBeGreaterThan(100)
    const lossy = (await rumours('x', { announcementLoss: 0.8 })).heard.length
    expect(lossy).toBeGreaterThan(5)
    expect(lossy).toBeLessThan(75)
  })

  it('blame whoever passed on what was rejected', async () => {
    const { network, clock, peers } = await rumours('x', {})
    await peers[2]?.publish('t', bytesOf('too long'))
    await clock.advance(1)
    expect([network.rejectedFrom('p2'), network.rejectedFrom('p1')]).toEqual([4, 0])
  })

  it('cut about as many channels as told, at every point of the conversation', async () => {
    const faults = { latencyMs: [1, 9], channelCut: { probability: 0.3, withinFrames: 4 } } as const
    const { clock, peers } = await members(2, { faults })
    const [a, b] = peers as [Transport, Transport]
    b.handle(PROTOCOL, async (channel) => {
      for (let frame = await channel.receive(); frame !== undefined; frame = await channel.receive()) {
        await channel.send(frame)
      }
    })
    const brokenAfter: number[] = []
    for (let round = 0; round < 200; round++) {
      const conversation = converse(a)
      await clock.advance(1_000)
      brokenAfter.push(await conversation)
    }
    const cut = brokenAfter.filter((echoes) => echoes < 4)
    // 60 expected of 200; four standard deviations of the binomial are 26.
    expect(cut.length).toBeGreaterThan(34)
    expect(cut.length).toBeLessThan(86)
    expect(new Set(cut)).toEqual(new Set([0, 1, 2, 3]))
  })
})

/** Four echoes; how many came back before the link broke. */
async function converse(a: Transport): Promise<number> {
  const channel = await a.open('p1', PROTOCOL)
  let echoes = 0
  try {
    for (; echoes < 4; echoes++) {
      await channel.send(Uint8Array.of(echoes))
      await channel.receive()
    }
    await channel.close()
  } catch {
    // The cut that was drawn.
  }
  return echoes
}

describe('time in an in-memory network', () => {
  it('delays frames without letting one overtake another', async () => {
    const { clock, peers } = await members(2, { faults: { latencyMs: [10, 500] } })
    const [a, b] = peers as [Transport, Transport]
    const arrivals: [number, number][] = []
    b.handle(PROTOCOL, async (channel) => {
      for (let frame = await channel.receive(); frame !== undefined; frame = await channel.receive()) {
        arrivals.push([frame[0] ?? -1, clock.now()])
      }
    })
    const opening = a.open('p1', PROTOCOL)
    await clock.advance(1_000)
    const channel = await opening
    const start = clock.now()
    for (let i = 0; i < 20; i++) await channel.send(Uint8Array.of(i))
    await channel.close()
    await clock.advance(20_000)
    expect(arrivals.map(([frame]) => frame)).toEqual(Array.from({ length: 20 }, (_, i) => i))
    expect((arrivals[0]?.[1] ?? 0) - start).toBeGreaterThanOrEqual(10)
    expect((arrivals[19]?.[1] ?? 0) - start).toBeLessThanOrEqual(500)
  })

  it('makes a sender wait for a reader that does not read', async () => {
    const { clock, peers } = await members(2)
    const [a, b] = peers as [Transport, Transport]
    const go = Promise.withResolvers<void>()
    let read = 0
    b.handle(PROTOCOL, async (channel) => {
      await go.promise
      while ((await channel.receive()) !== undefined) read++
    })
    const channel = await a.open('p1', PROTOCOL)
    let sent = 0
    const sending = Promise.all(
      Array.from({ length: 100 }, async () => {
        await channel.send(new Uint8Array(1))
        sent++
      })
    )
    await clock.advance(10)
    expect(sent).toBe(64)
    go.resolve()
    await sending
    await channel.close()
    await clock.advance(10)
    expect(read).toBe(100)
  })
})
