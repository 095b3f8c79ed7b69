import type { Connection, Metrics, MultiaddrConnection, Stream } from '@libp2p/interface'
import type { Clock } from '../../base/clock.js'
import { GOSSIP_BURST_BYTES, GOSSIP_BYTES_PER_SECOND, MAX_METERED_PEERS } from '../limits.js'
import type { PeerId, TrafficCounters } from '../transport.js'

const GOSSIPSUB_PREFIX = '/meshsub/'

interface PeerMeter {
  bytesSent: number
  bytesReceived: number
  lastReceivedAt: number
  /** Token bucket for inbound pubsub bytes. */
  gossipTokens: number
  gossipFilledAt: number
}

export type MeterComplaint = 'gossip/flood' | 'gossip/bad-framing'

export interface Meter {
  /** For the `metrics` option of libp2p: its two tracking hooks see every socket and every stream. */
  readonly metrics: () => Metrics
  total(): TrafficCounters
  of(peer: PeerId): TrafficCounters
  /** Milliseconds since the epoch; undefined for a peer that never sent a byte. */
  lastReceivedAt(peer: PeerId): number | undefined
}

/**
 * Counts bytes and watches the inbound pubsub streams: libp2p has no rate limit of its own, and gossipsub says nothing
 * about a peer whose framing it refused. `complain` is told; what follows is the transport's decision.
 */
export function createMeter(clock: Clock, complain: (peer: PeerId, about: MeterComplaint) => void): Meter {
  const wire = { bytesSent: 0, bytesReceived: 0 }
  const peers = new Map<PeerId, PeerMeter>()

  const meterOf = (peer: PeerId): PeerMeter => {
    const known = peers.get(peer) ?? {
      bytesSent: 0,
      bytesReceived: 0,
      lastReceivedAt: clock.now(),
      gossipTokens: GOSSIP_BURST_BYTES,
      gossipFilledAt: clock.now()
    }
    // The map is in order of last use: what is first was unseen longest.
    peers.delete(peer)
    peers.set(peer, known)
    if (peers.size > MAX_METERED_PEERS) peers.delete(peers.keys().next().value as PeerId)
    return known
  }

  const trackMultiaddrConnection = (connection: MultiaddrConnection) => {
    tap(connection, {
      sent: (bytes) => {
        wire.bytesSent += bytes
      },
      received: (bytes) => {
        wire.bytesReceived += bytes
      }
    })
  }

  const trackProtocolStream = (stream: Stream, connection: Connection) => {
    const peer = connection.remotePeer.toString()
    const inboundGossip = stream.direction === 'inbound' && stream.protocol?.startsWith(GOSSIPSUB_PREFIX) === true
    const meter = meterOf(peer)
    tap(stream, {
      sent: (bytes) => {
        meter.bytesSent += bytes
      },
      received: (bytes) => {
        meter.bytesReceived += bytes
        meter.lastReceivedAt = clock.now()
        if (inboundGossip && !takeGossipTokens(meter, bytes, clock.now())) complain(peer, 'gossip/flood')
      },
      // gossipsub reads until the stream ends; that it stops earlier means the length prefix was out of bounds.
      ...(inboundGossip ? { abandoned: () => complain(peer, 'gossip/bad-framing') } : {})
    })
  }

  return {
    metrics: () => ({ ...noInstruments, trackMultiaddrConnection, trackProtocolStream }),
    total: () => ({ ...wire }),
    of: (peer) => {
      const meter = peers.get(peer)
      return { bytesSent: meter?.bytesSent ?? 0, bytesReceived: meter?.bytesReceived ?? 0 }
    },
    lastReceivedAt: (peer) => peers.get(peer)?.lastReceivedAt
  }
}

function takeGossipTokens(meter: PeerMeter, bytes: number, now: number): boolean {
  const refill = ((now - meter.gossipFilledAt) / 1000) * GOSSIP_BYTES_PER_SECOND
  meter.gossipTokens = Math.min(GOSSIP_BURST_BYTES, meter.gossipTokens + refill) - bytes
  meter.gossipFilledAt = now
  return meter.gossipTokens >= 0
}

interface Taps {
  sent(bytes: number): void
  received(bytes: number): void
  /** The reader stopped before the end. */
  abandoned?(): void
}

interface Chunk {
  readonly byteLength: number
}

type ChunkSource<T> = AsyncIterable<T> | Iterable<T>

/** Puts counters into both directions of a duplex, in place, as libp2p's own metrics do. */
function tap(duplex: Stream | MultiaddrConnection, taps: Taps): void {
  const sink = duplex.sink.bind(duplex)
  duplex.sink = (source: Parameters<Stream['sink']>[0]) => sink(counted(source, taps.sent))
  duplex.source = counted(duplex.source, taps.received, taps.abandoned) as typeof duplex.source
}

/**
 * A plain iterator, not a generator: `return()` of a generator waits for its pending `next()`, and libp2p ends a sink
 * by calling `return()` while `next()` waits for data that never comes.
 */
function counted<T extends Chunk>(
  source: ChunkSource<T>,
  count: (bytes: number) => void,
  abandoned?: () => void
): AsyncGenerator<T, void, unknown> {
  const inner: Iterator<T> | AsyncIterator<T> =
    Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
  let ended = false
  const outer = {
    [Symbol.asyncIterator]: () => outer,
    next: async () => {
      try {
        const result = await inner.next()
        if (result.done === true) ended = true
        else count(result.value.byteLength)
        return result
      } catch (error) {
        ended = true
        throw error
      }
    },
    return: async () => {
      if (!ended) abandoned?.()
      ended = true
      await inner.return?.()
      return { done: true as const, value: undefined }
    },
    throw: async (error: unknown) => {
      ended = true
      await inner.return?.()
      throw error
    },
    [Symbol.asyncDispose]: async () => undefined
  }
  return outer as AsyncGenerator<T, void, unknown>
}

const nothing = () => undefined
const instrument = {
  update: nothing,
  increment: nothing,
  decrement: nothing,
  reset: nothing,
  observe: nothing,
  timer: () => nothing
}
const register = () => instrument

/** The instruments of libp2p's own parts measure nothing: only the two tracking hooks are wanted. */
const noInstruments = {
  registerMetric: register,
  registerMetricGroup: register,
  registerCounter: register,
  registerCounterGroup: register,
  registerHistogram: register,
  registerHistogramGroup: register,
  registerSummary: register,
  registerSummaryGroup: register,
  traceFunction: <F>(_name: string, traced: F): F => traced,
  createTrace: nothing
}
