import type { Connection, Stream } from '@libp2p/interface'
import { describe, expect, it } from 'vitest'
import { createMeter, type MeterComplaint } from '../../../src/gossip/libp2p/meter.js'
import { GOSSIP_BURST_BYTES, GOSSIP_BYTES_PER_SECOND } from '../../../src/gossip/limits.js'
import { createVirtualClock } from '../virtual-clock.js'

const connection = { remotePeer: { toString: () => 'peer' } } as unknown as Connection

function fakeStream(protocol: string, chunks: readonly Uint8Array[]) {
  const written: Uint8Array[] = []
  const stream = {
    protocol,
    direction: 'inbound',
    source: (async function* () {
      yield* chunks
    })(),
    sink: async (source: AsyncIterable<Uint8Array>) => {
      for await (const chunk of source) written.push(chunk)
    }
  } as unknown as Stream
  return { stream, written }
}

function setup() {
  const clock = createVirtualClock()
  const complaints: MeterComplaint[] = []
  const meter = createMeter(clock, (_peer, about) => complaints.push(about))
  return { clock, complaints, meter, metrics: meter.metrics() }
}

describe('the meter', () => {
  it('counts both directions of a stream without changing a byte', async () => {
    const { meter, metrics, clock } = setup()
    const { stream, written } = fakeStream('/peertune/x', [new Uint8Array(3), new Uint8Array(500)])
    metrics.trackProtocolStream(stream, connection)
    const read: number[] = []
    for await (const chunk of stream.source) read.push(chunk.byteLength)
    await stream.sink([Uint8Array.of(1, 2), Uint8Array.of(3)])
    expect(read).toEqual([3, 500])
    expect(written.map((chunk) => [...chunk])).toEqual([[1, 2], [3]])
    expect(meter.of('peer')).toEqual({ bytesSent: 3, bytesReceived: 503 })
    expect(meter.lastReceivedAt('peer')).toBe(clock.now())
    expect(meter.lastReceivedAt('nobody')).toBeUndefined()
  })

  it('complains about a reader that gives up early, only for pubsub', async () => {
    const { complaints, metrics } = setup()
    for (const protocol of ['/meshsub/1.1.0', '/peertune/x']) {
      const { stream } = fakeStream(protocol, [new Uint8Array(1), new Uint8Array(1)])
      metrics.trackProtocolStream(stream, connection)
      for await (const _ of stream.source) break
    }
    expect(complaints).toEqual(['gossip/bad-framing'])
  })

  it('lets a burst of pubsub pass and complains about a flood, which time forgives', async () => {
    const { clock, complaints, metrics } = setup()
    const receive = async (bytes: number) => {
      const { stream } = fakeStream('/meshsub/1.1.0', [new Uint8Array(bytes)])
      metrics.trackProtocolStream(stream, connection)
      for await (const _ of stream.source);
    }
    await receive(GOSSIP_BURST_BYTES)
    expect(complaints).toEqual([])
    await receive(1)
    expect(complaints).toEqual(['gossip/flood'])
    await clock.advance(3_000)
    await receive(2 * GOSSIP_BYTES_PER_SECOND)
    expect(complaints).toEqual(['gossip/flood'])
    await receive(2 * GOSSIP_BYTES_PER_SECOND)
    expect(complaints).toEqual(['gossip/flood', 'gossip/flood'])
  })
})
