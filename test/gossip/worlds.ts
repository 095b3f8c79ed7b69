import { expect } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { silentLogger } from '../../src/base/log.js'
import { seededRng } from '../../src/base/rng.js'
import { createLibp2pTransport, type Libp2pTransportOptions } from '../../src/gossip/libp2p/libp2p.js'
import { createIdentity } from '../../src/gossip/libp2p/identity.js'
import { createMemoryNetwork } from '../../src/gossip/memory/memory.js'
import type { ConnectOutcome, Transport } from '../../src/gossip/transport.js'
import { announceTopic } from '../../src/gossip/topics.js'

const FEDERATION = 'a3'.repeat(32)
export const TOPIC = announceTopic(FEDERATION)

export interface NodeOptions {
  readonly maxFrameBytes?: number
  readonly networkKey?: string
}

/** Makes started transports that can reach each other, and takes them down again. */
export interface World {
  create(options?: NodeOptions): Promise<Transport>
  dispose(): Promise<void>
}

export function memoryWorld(): World {
  const network = createMemoryNetwork({ seed: 'conformance', clock: systemClock })
  const made: Transport[] = []
  return {
    create: async (options = {}) => {
      const transport = network.join({ name: `m${made.length}`, topics: [TOPIC], ...options })
      made.push(transport)
      await transport.start()
      return transport
    },
    dispose: async () => {
      for (const transport of made) await transport.stop()
    }
  }
}

export async function libp2pNode(options: Partial<Libp2pTransportOptions> = {}) {
  const identity = options.identity ?? (await createIdentity())
  return createLibp2pTransport({
    identity,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    topics: [TOPIC],
    version: '0.0.0-test',
    clock: systemClock,
    rng: seededRng('test', Buffer.from(identity).toString('hex')),
    log: silentLogger,
    limits: SLOW,
    ...options
  })
}

/** Milliseconds: a handshake on a busy machine takes as long as it takes, and only what never answers is late. */
export const SLOW = { dialTimeoutMs: 120_000, probeTimeoutMs: 20_000 }
/** As slow, and discovery stays out of the way: whoever connects by hand has no use for it. */
export const BY_HAND = { ...SLOW, targetPeers: 0 }

export function libp2pWorld(): World {
  const made: Transport[] = []
  return {
    create: async ({ maxFrameBytes, ...options } = {}) => {
      const limits = { ...BY_HAND, ...(maxFrameBytes === undefined ? {} : { maxFrameBytes }) }
      const transport = await libp2pNode({ ...options, limits })
      made.push(transport)
      await transport.start()
      return transport
    },
    dispose: async () => {
      await Promise.all(made.map((transport) => transport.stop()))
    }
  }
}

export const connect = async (from: Transport, to: Transport): Promise<ConnectOutcome> =>
  from.connect(to.addresses()[0] ?? '')

/** For all that comes after it: a dial that failed would be found only where somebody is missing. */
export async function mustConnect(from: Transport, to: Transport): Promise<void> {
  expect(await connect(from, to)).toEqual({ ok: true, peer: to.self })
}
