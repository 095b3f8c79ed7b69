import { createServer, type Server } from 'node:net'
import type { AddressInfo } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import {
  createLibp2pTransport,
  type Libp2pTransport,
  type Libp2pTransportOptions
} from '../../../src/gossip/libp2p/libp2p.js'
import { createIdentity, createNetworkKey, peerIdOf } from '../../../src/gossip/libp2p/identity.js'
import { BY_HAND, libp2pNode } from '../worlds.js'

const closers: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function started(options: Partial<Libp2pTransportOptions> = {}): Promise<Libp2pTransport> {
  const node = await libp2pNode({ limits: BY_HAND, ...options })
  closers.push(() => node.stop())
  await node.start()
  return node
}

/** For dials that only time ends: whoever answers sooner or later does so to the second look. */
const HASTY = { ...BY_HAND, dialTimeoutMs: 1_000 }

const addressOf = (node: Libp2pTransport) => node.addresses()[0] ?? ''

async function listening(onConnection: Parameters<typeof createServer>[1]): Promise<string> {
  const server: Server = createServer(onConnection)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => server.close())
  return `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`
}

describe('a node that the operator denies', () => {
  it('is hung up on and not let in again, from either side, until the list no longer names it', async () => {
    const [a, b] = [await started(), await started()]
    expect(await a.connect(addressOf(b))).toMatchObject({ ok: true })
    const left = Promise.withResolvers<string>()
    a.on('disconnect', left.resolve)
    a.deny(new Set([b.self]))
    expect(await left.promise).toBe(b.self)
    expect(await a.connect(`${addressOf(b)}`)).toMatchObject({
      code: 'banned',
      detail: expect.stringContaining('deny list')
    })
    expect(await b.connect(addressOf(a))).toMatchObject({ ok: false })
    a.deny(new Set())
    expect(await b.connect(addressOf(a))).toMatchObject({ ok: true })
  })
})

describe('why a node cannot be reached, in words', () => {
  it('names another network key, a missing one and a superfluous one', async () => {
    const [red, blue, open] = [
      await started({ networkKey: createNetworkKey(), limits: HASTY }),
      await started({ networkKey: createNetworkKey(), limits: HASTY }),
      await started({ limits: HASTY })
    ]
    const place = /127\.0\.0\.1:\d+/
    const another = await red.connect(addressOf(blue))
    expect(another).toMatchObject({ ok: false, code: 'wrong-network-key', detail: expect.stringMatching(place) })
    expect(another).toMatchObject({ detail: expect.stringContaining('another network key than this one') })
    expect(await open.connect(addressOf(red))).toMatchObject({
      code: 'wrong-network-key',
      detail: expect.stringContaining('this node has no network key')
    })
    expect(await red.connect(addressOf(open))).toMatchObject({
      code: 'wrong-network-key',
      detail: expect.stringContaining('has no network key and this one has')
    })
  })

  it('connects with the same network key', async () => {
    const networkKey = createNetworkKey()
    const [a, b] = [await started({ networkKey }), await started({ networkKey })]
    expect(await a.connect(addressOf(b))).toEqual({ ok: true, peer: b.self })
  })

  it('says that nothing listens', async () => {
    const [a, b] = [await started(), await started()]
    const address = addressOf(b)
    await b.stop()
    expect(await a.connect(address)).toEqual({
      ok: false,
      code: 'connection-refused',
      address,
      detail: `Nothing listens at ${address.replace(/^\/ip4\/([^/]+)\/tcp\/(\d+).*$/, '$1:$2')}: the connection was refused`
    })
  })

  it('says what is wrong with an address, and guesses what was meant', async () => {
    const a = await started()
    expect(await a.connect('127.0.0.1:4001')).toMatchObject({
      code: 'bad-address',
      detail: expect.stringContaining('did you mean /ip4/127.0.0.1/tcp/4001?')
    })
    expect(await a.connect('seed.example.org:4001')).toMatchObject({
      detail: expect.stringContaining('/dns4/seed.example.org/tcp/4001')
    })
    for (const address of ['/ip4/300.1.2.3/tcp/4001', '/ip4/127.0.0.1/udp/4001/quic-v1', '', '🦊']) {
      expect(await a.connect(address)).toMatchObject({ ok: false, code: 'bad-address', address })
    }
  })

  it('recognises what is no peertune node: a web server, a shell greeting, another libp2p program', async () => {
    const [a, patient] = [await started({ limits: HASTY }), await started()]
    const web = await listening((socket) => {
      socket.on('error', () => undefined)
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    })
    expect(await a.connect(web)).toMatchObject({
      code: 'not-peertune',
      detail: expect.stringContaining('HTTP/1.1 400 Bad Request')
    })
    const shell = await listening((socket) => {
      socket.on('error', () => undefined)
      socket.write('SSH-2.0-OpenSSH_9.6\r\n')
    })
    expect(await a.connect(shell)).toMatchObject({ code: 'not-peertune', detail: expect.stringContaining('SSH-2.0') })
    const other = await createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify({ agentVersion: 'kubo/0.29.0' }) }
    })
    closers.push(() => other.stop())
    expect(await patient.connect(String(other.getMultiaddrs()[0]))).toMatchObject({ code: 'not-peertune' })
    expect([...a.connected(), ...patient.connected()]).toEqual([])
  })

  it('tells a mute port from one that closes at once', async () => {
    const a = await started()
    const hasty = await started({ limits: { dialTimeoutMs: 1_000, probeTimeoutMs: 1_000, targetPeers: 0 } })
    const mute = await listening((socket) => socket.on('error', () => undefined))
    expect(await hasty.connect(mute)).toMatchObject({
      code: 'timeout',
      detail: expect.stringContaining('says nothing')
    })
    const shut = await listening((socket) => socket.destroy())
    expect(await a.connect(shut)).toMatchObject({
      code: 'unreachable',
      detail: expect.stringContaining('closes it at once')
    })
  })

  it('does not take another peer at the right address for the one that was asked for', async () => {
    const [a, b] = [await started(), await started()]
    const asked = peerIdOf(await createIdentity())
    const address = addressOf(b).replace(b.self, asked)
    expect(await a.connect(address)).toEqual({
      ok: false,
      code: 'wrong-peer-id',
      address,
      detail: `${address} was to lead to ${asked}, but ${b.self} answered`
    })
    expect(a.connected()).toEqual([])
  })

  it('names a port in use and an address of another machine when starting', async () => {
    const a = await started()
    const taken = addressOf(a).replace(/\/p2p\/.*/, '')
    const second = await libp2pNode({ listen: [taken] })
    await expect(second.start()).rejects.toMatchObject({ code: 'config/port-in-use', facts: { address: taken } })
    const foreign = await libp2pNode({ listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/192.0.2.1/tcp/0'] })
    await expect(foreign.start()).rejects.toMatchObject({
      code: 'config/cannot-listen',
      message: 'listen: expected an address of this machine, got 192.0.2.1 in /ip4/192.0.2.1/tcp/0'
    })
  })

  it('refuses a broken identity, network key or list of bootstrap addresses before it starts', async () => {
    const identity = await createIdentity()
    expect(identity).toHaveLength(68)
    await expect(libp2pNode({ identity: identity.subarray(0, 40) })).rejects.toMatchObject({
      code: 'config/bad-identity'
    })
    await expect(libp2pNode({ networkKey: 'secret' })).rejects.toMatchObject({ code: 'config/bad-network-key' })
    await expect(
      libp2pNode({ bootstrap: Array.from({ length: 33 }, () => '/ip4/127.0.0.1/tcp/1') })
    ).rejects.toMatchObject({ code: 'config/too-many-bootstrap-addresses', facts: { got: 33 } })
    expect(createLibp2pTransport).toBeTypeOf('function')
  })
})
