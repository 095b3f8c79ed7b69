import { type GossipSub, gossipsub, type GossipsubOpts } from '@chainsafe/libp2p-gossipsub'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { type Logger, silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { ACCEPT, type Verdict } from '../../../src/base/verdict.js'
import { createNode } from '../../../src/gossip/libp2p/config.js'
import { createMeter } from '../../../src/gossip/libp2p/meter.js'
import { bindSubscription } from '../../../src/gossip/libp2p/pubsub.js'
import {
  FLOOD_BAN_MS,
  MAX_ANNOUNCEMENT_BYTES,
  MAX_CHANNELS_PER_PEER,
  MAX_CONNECTIONS_PER_PEER,
  MAX_GOSSIP_RPC_BYTES
} from '../../../src/gossip/limits.js'
import { eventually } from '../../eventually.js'
import { BY_HAND, libp2pNode, mustConnect, SLOW, TOPIC } from '../worlds.js'

const PROTOCOL = '/peertune/test/1.0.0'
const closers: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()))
})

/** Any libp2p program: none of our settings, none of our manners. */
async function hostile(options: Partial<GossipsubOpts> = {}) {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: {
      dialTimeout: SLOW.dialTimeoutMs,
      inboundUpgradeTimeout: SLOW.dialTimeoutMs,
      protocolNegotiationTimeout: SLOW.dialTimeoutMs
    },
    services: {
      identify: identify({ timeout: SLOW.dialTimeoutMs }),
      pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, ...options })
    }
  })
  closers.push(() => node.stop())
  return { node, pubsub: node.services.pubsub as GossipSub }
}

/** The very node the transport makes, with its inside open. */
async function victim(heard: string[] = []) {
  const meter = createMeter(systemClock, () => undefined)
  const node = await createNode({
    privateKey: await generateKeyPair('Ed25519'),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    announce: [],
    networkKey: undefined,
    topics: [TOPIC],
    version: '0.0.0-test',
    maxConnections: 16,
    maxInboundConnectionsPerSecond: 100,
    selfQueries: true,
    dialTimeoutMs: SLOW.dialTimeoutMs,
    gater: {},
    metrics: meter.metrics
  })
  await node.start()
  closers.push(() => node.stop())
  const pubsub = node.services.pubsub as GossipSub
  bindSubscription(
    pubsub,
    TOPIC,
    {
      validate: (_from, bytes) => (bytes[0] === 0xff ? { verdict: 'reject', code: 'test/garbage' } : ACCEPT),
      deliver: (_from, bytes) => heard.push(new TextDecoder().decode(bytes))
    },
    { isBanned: () => false, log: silentLogger }
  )
  const topicsOf = () => (pubsub as unknown as { topics: Map<string, Set<string>> }).topics
  return { node, pubsub, topicsOf, address: multiaddr(String(node.getMultiaddrs()[0])) }
}

/** A whole transport that listens to TOPIC, and somebody hostile connected to it. */
async function underAttack(options: Parameters<typeof libp2pNode>[0]) {
  const target = await libp2pNode({ ...options, limits: BY_HAND })
  closers.push(() => target.stop())
  target.subscribe(
    TOPIC,
    () => ACCEPT,
    () => undefined
  )
  await target.start()
  const attacker = await hostile()
  attacker.pubsub.subscribe(TOPIC)
  await attacker.node.dial(multiaddr(target.addresses()[0] ?? ''))
  await eventually(() => expect(attacker.pubsub.getSubscribers(TOPIC)).toHaveLength(1))
  return { target, attacker }
}

describe('a hostile pubsub peer', () => {
  it('subscribes to 20,000 topics and the victim remembers none of them', async () => {
    const heard: string[] = []
    const target = await victim(heard)
    const attacker = await hostile()
    // Half of them in the one RPC sent when connecting, half one by one afterwards: each meets another of the two limits.
    for (let i = 0; i < 10_000; i++) attacker.pubsub.subscribe(`before/${i}`)
    await attacker.node.dial(target.address)
    await eventually(() => expect(target.pubsub.getPeers()).toHaveLength(1))
    await eventually(() => expect(attacker.pubsub.streamsOutbound.size).toBe(1))
    for (let i = 0; i < 10_000; i++) attacker.pubsub.subscribe(`after/${i}`)
    // The attacker's honest subscription comes after everything else on the same stream.
    attacker.pubsub.subscribe(TOPIC)
    await eventually(() => expect(target.pubsub.getSubscribers(TOPIC)).toHaveLength(1))
    expect([...target.topicsOf().keys()]).toEqual([TOPIC])
    await attacker.node.stop()
    await eventually(() => expect(target.pubsub.getPeers()).toHaveLength(0))
    expect([...target.topicsOf().values()].reduce((sum, peers) => sum + peers.size, 0)).toBe(0)

    const honest = await hostile()
    honest.pubsub.subscribe(TOPIC)
    await honest.node.dial(target.address)
    await eventually(() => expect(honest.pubsub.getSubscribers(TOPIC)).toHaveLength(1))
    await honest.pubsub.publish(TOPIC, new TextEncoder().encode('still here'))
    await eventually(() => expect(heard).toEqual(['still here']))
  })

  it.each([
    ['unsigned', { globalSignaturePolicy: 'StrictNoSign' as const }, new TextEncoder().encode('trust me')],
    ['garbage', {}, Uint8Array.of(0xff, 1, 2)],
    ['oversized', {}, new Uint8Array(MAX_ANNOUNCEMENT_BYTES + 1)]
  ])('pays for %s announcements until nobody listens to it', async (_what, options, bytes) => {
    const heard: string[] = []
    const target = await victim(heard)
    const attacker = await hostile(options)
    attacker.pubsub.subscribe(TOPIC)
    await attacker.node.dial(target.address)
    await eventually(() => expect(attacker.pubsub.getSubscribers(TOPIC)).toHaveLength(1))
    let told = 0
    // Below gossipsub's graylist threshold not a single RPC of the peer is looked at. A score fades: what counts is that it is
    // turned away while it goes on.
    await eventually(async () => {
      // An unsigned message has no sequence number: equal ones would be duplicates.
      const different = bytes.slice()
      different[different.length - 1] = told++
      await attacker.pubsub.publish(TOPIC, different)
      expect(target.pubsub.acceptFrom(attacker.node.peerId.toString())).toBe(false)
    })
    expect(target.pubsub.getScore(attacker.node.peerId.toString())).toBeLessThan(0)
    expect(heard).toEqual([])
  })

  it('is banned when its framing is out of bounds', async () => {
    const warnings: unknown[] = []
    const log: Logger = { ...silentLogger, warn: (facts) => warnings.push(facts.about) }
    const offences: unknown[] = []
    const onOffence = (peer: string, verdict: Verdict, forMs?: number) => offences.push([peer, verdict, forMs])
    const { target, attacker } = await underAttack({ log, onOffence })
    await attacker.pubsub.publish(TOPIC, new Uint8Array(MAX_GOSSIP_RPC_BYTES))
    await eventually(() => expect(target.connected()).toEqual([]))
    expect(warnings).toEqual(['gossip/bad-framing'])
    expect(offences).toEqual([
      [attacker.node.peerId.toString(), { verdict: 'reject', code: 'gossip/bad-framing' }, FLOOD_BAN_MS]
    ])
  })

  it('is named for what it passed on and nobody may', async () => {
    const offences: unknown[] = []
    const onOffence = (peer: string, verdict: Verdict) => offences.push([peer, 'code' in verdict && verdict.code])
    const { attacker } = await underAttack({ onOffence })
    await attacker.pubsub.publish(TOPIC, new Uint8Array(MAX_ANNOUNCEMENT_BYTES + 1))
    await eventually(() => expect(offences).toHaveLength(1))
    expect(offences).toEqual([[attacker.node.peerId.toString(), 'gossip/announcement-too-large']])
  })
})

describe('a hostile channel peer', () => {
  /** Frames that are none, and what the handler is told. */
  const random = seededRng('hostile')
  const attacks: [string, Uint8Array, string][] = [
    ['a truncated frame', Uint8Array.of(0xe8, 0x07, 1, 2, 3), 'gossip/channel-broken'],
    ['a length beyond the bound', Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f), 'gossip/frame-too-large'],
    ['a length without an end', new Uint8Array(12).fill(0xff), 'gossip/channel-broken'],
    ['random bytes', Uint8Array.from({ length: 4_096 }, (_, i) => (i === 0 ? 0xff : random.integer(256))), 'gossip/']
  ]

  it.each(attacks)('sends %s: the handler gets an error, the node goes on', async (_what, bytes, code) => {
    const outcomes: string[] = []
    const target = await libp2pNode({ limits: BY_HAND })
    closers.push(() => target.stop())
    target.handle(PROTOCOL, async (channel) => {
      const result = await channel.receive().then(
        (frame) => `frame of ${frame?.length}`,
        (error: { code?: string }) => error.code ?? 'no code'
      )
      outcomes.push(result)
      if (result.startsWith('frame')) await channel.send(Uint8Array.of(1))
    })
    await target.start()
    const attacker = await hostile()
    const stream = await attacker.node.dialProtocol(multiaddr(target.addresses()[0] ?? ''), PROTOCOL)
    await stream.sink([bytes]).catch(() => undefined)
    await eventually(() => expect(outcomes).toHaveLength(1))
    expect(outcomes[0]).toContain(code)

    const honest = await libp2pNode({ limits: BY_HAND })
    closers.push(() => honest.stop())
    await honest.start()
    await mustConnect(honest, target)
    const channel = await honest.open(target.self, PROTOCOL)
    await channel.send(new Uint8Array(10))
    expect(await channel.receive()).toEqual(Uint8Array.of(1))
    expect(outcomes[1]).toBe('frame of 10')
    await channel.close()
  })

  it('keeps only a few connections', async () => {
    const target = await libp2pNode({ limits: BY_HAND })
    closers.push(() => target.stop())
    await target.start()
    const attacker = await hostile()
    const address = multiaddr(target.addresses()[0] ?? '')
    await Promise.allSettled(Array.from({ length: 12 }, () => attacker.node.dial(address, { force: true })))
    for (let i = 0; i < 8; i++) await attacker.node.dial(address, { force: true }).catch(() => undefined)
    await eventually(() => {
      const open = attacker.node.getConnections().filter(({ status }) => status === 'open')
      expect(open.length).toBeLessThanOrEqual(MAX_CONNECTIONS_PER_PEER)
    })
    expect(target.connected()).toEqual([attacker.node.peerId.toString()])
  })

  it('opens many streams: only so many reach the handler, and others are served', async () => {
    let busy = 0
    let most = 0
    const target = await libp2pNode({ limits: BY_HAND })
    closers.push(() => target.stop())
    target.handle(PROTOCOL, async (channel) => {
      most = Math.max(most, ++busy)
      try {
        const frame = await channel.receive()
        if (frame !== undefined) await channel.send(frame)
      } finally {
        busy--
      }
    })
    await target.start()
    const address = target.addresses()[0] ?? ''
    const attacker = await hostile()
    const connection = await attacker.node.dial(multiaddr(address))
    const streams = await Promise.allSettled(
      Array.from({ length: 60 }, () => connection.newStream(PROTOCOL, { maxOutboundStreams: 100 }))
    )
    // The first byte makes each negotiation final.
    for (const stream of streams) {
      if (stream.status === 'fulfilled') void stream.value.sink(slowly()).catch(() => undefined)
    }
    await eventually(() => expect(busy).toBe(MAX_CHANNELS_PER_PEER))
    const honest = await libp2pNode({ limits: BY_HAND })
    closers.push(() => honest.stop())
    await honest.start()
    await mustConnect(honest, target)
    const channel = await honest.open(target.self, PROTOCOL)
    await channel.send(Uint8Array.of(7, 8))
    expect(await channel.receive()).toEqual(Uint8Array.of(7, 8))
    await channel.close()
    expect(most).toBe(MAX_CHANNELS_PER_PEER + 1)
  })
})

/** Announces a frame of ten bytes, sends one of them and leaves the rest for later. */
async function* slowly(): AsyncGenerator<Uint8Array> {
  yield Uint8Array.of(10, 1)
  await new Promise(() => undefined)
}
