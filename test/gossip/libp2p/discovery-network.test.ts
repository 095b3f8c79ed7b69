import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { ACCEPT } from '../../../src/base/verdict.js'
import { createIdentity } from '../../../src/gossip/libp2p/identity.js'
import type { Libp2pTransport, Libp2pTransportOptions } from '../../../src/gossip/libp2p/libp2p.js'
import { eventually } from '../../eventually.js'
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
    await eventually(() => {
      for (const node of [first, ...rest]) expect(node.subscribers(TOPIC).length).toBe(7)
    })
    await eventually(() => {
      for (const node of rest) {
        expect(node.bootstrap()).toMatchObject([{ address: bootstrap[0], state: 'connected' }])
      }
    })
  })

  it('keeps dialling a bootstrap address that is not there yet, says why, and connects when it comes', async () => {
    const identity = await createIdentity()
    const probe = await started({ identity })
    const [address = ''] = probe.addresses()
    await probe.stop()
    const waiting = await started({ bootstrap: [address] })
    await eventually(() =>
      expect(waiting.bootstrap()).toMatchObject([
        {
          address,
          state: 'waiting',
          lastFailure: { code: 'connection-refused', detail: expect.stringContaining('Nothing listens') }
        }
      ])
    )
    const late = await started({ identity, listen: [address.replace(/\/p2p\/.*/, '')] })
    await eventually(() => expect(waiting.connected()).toEqual([late.self]))
    await eventually(() => expect(waiting.bootstrap()).toMatchObject([{ state: 'connected' }]))
  })

  it('finds the peers of the last run again without a bootstrap address', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-peers-'))
    const knownPeersPath = join(folder, 'peers.json')
    try {
      const [identity, other] = [await createIdentity(), await started()]
      const before = await libp2pNode({ identity, knownPeersPath, bootstrap: other.addresses() })
      await before.start()
      // Connected comes before it is known who that is, and where.
      await eventually(() => expect(before.bootstrap()).toMatchObject([{ state: 'connected' }]))
      await before.stop()
      expect(JSON.parse(await readFile(knownPeersPath, 'utf8'))).toMatchObject({
        peertune: 1,
        peers: [{ peer: other.self }]
      })
      const after = await started({ identity, knownPeersPath })
      await eventually(() => expect(after.connected()).toEqual([other.self]))
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
