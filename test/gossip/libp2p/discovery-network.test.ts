import { PATIENCE } from '../../patience.js'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ACCEPT } from '../../../src/base/verdict.js'
import type { Libp2pTransport, Libp2pTransportOptions } from '../../../src/gossip/libp2p/libp2p.js'
import { createIdentity } from '../../../src/gossip/libp2p/identity.js'
import { libp2pNode, TOPIC } from '../worlds.js'

const nodes: Libp2pTransport[] = []
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.stop()))
})

async function started(options: Partial<Libp2pTransportOptions> = {}): Promise<Libp2pTransport> {
  const node = await libp2pNode(options)
  node.subscribe(
    TOPIC,
    () => ACCEPT,
    () => undefined
  )
  nodes.push(node)
  await node.start()
  return node
}

describe('finding each other', () => {
  it('connects eight nodes with each other through one bootstrap address', async () => {
    const first = await started()
    const bootstrap = first.addresses()
    const rest = await Promise.all(Array.from({ length: 7 }, () => started({ bootstrap })))
    await vi.waitFor(() => {
      for (const node of [first, ...rest]) expect(node.subscribers(TOPIC).length).toBe(7)
    }, PATIENCE)
    await vi.waitFor(() => {
      for (const node of rest) {
        expect(node.bootstrap()).toMatchObject([{ address: bootstrap[0], state: 'connected' }])
      }
    }, PATIENCE)
  })

  it('keeps dialling a bootstrap address that is not there yet, says why, and connects when it comes', async () => {
    const identity = await createIdentity()
    const probe = await started({ identity })
    const [address = ''] = probe.addresses()
    await probe.stop()
    const waiting = await started({ bootstrap: [address] })
    await vi.waitFor(
      () =>
        expect(waiting.bootstrap()).toMatchObject([
          {
            address,
            state: 'waiting',
            lastFailure: { code: 'connection-refused', detail: expect.stringContaining('Nothing listens') }
          }
        ]),
      PATIENCE
    )
    const late = await started({ identity, listen: [address.replace(/\/p2p\/.*/, '')] })
    await vi.waitFor(() => expect(waiting.connected()).toEqual([late.self]), PATIENCE)
    await vi.waitFor(() => expect(waiting.bootstrap()).toMatchObject([{ state: 'connected' }]), PATIENCE)
  })

  it('finds the peers of the last run again without a bootstrap address', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-peers-'))
    const knownPeersPath = join(folder, 'peers.json')
    try {
      const [identity, other] = [await createIdentity(), await started()]
      const before = await libp2pNode({ identity, knownPeersPath, bootstrap: other.addresses() })
      await before.start()
      await vi.waitFor(() => expect(before.connected()).toEqual([other.self]), PATIENCE)
      await before.stop()
      expect(JSON.parse(await readFile(knownPeersPath, 'utf8'))).toMatchObject({
        peertune: 1,
        peers: [{ peer: other.self }]
      })
      const after = await started({ identity, knownPeersPath })
      await vi.waitFor(() => expect(after.connected()).toEqual([other.self]), PATIENCE)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
