import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Clock } from '../../base/clock.js'
import { describeError, type PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { asError, type ChannelHandler, channelError, converse } from '../channel.js'
import { createFrameBudget } from '../frame-budget.js'
import { streamChannel } from './channel.js'
import type { Node } from './config.js'
import { MAX_CHANNELS_PER_PEER } from '../limits.js'
import type { Channel, PeerId } from '../transport.js'

export interface ChannelsOptions {
  readonly maxFrameBytes: number
  readonly maxChannelsPerPeer?: number
  readonly clock: Clock
  readonly log: Logger
}

export interface Channels {
  open(node: Node, peer: PeerId, protocol: string, signal?: AbortSignal): Promise<Channel>
  answer(node: Node, protocol: string, handler: ChannelHandler): Promise<void>
}

/** Opening and answering conversations; the bounds hold across all connections with a peer. */
export function createChannels(options: ChannelsOptions): Channels {
  const { maxFrameBytes, maxChannelsPerPeer = MAX_CHANNELS_PER_PEER, clock, log } = options
  const budget = createFrameBudget()
  const inbound = createCensus()
  const outbound = createCensus()
  const wrap = (peer: PeerId, stream: Stream, onEnd: () => void) =>
    streamChannel(peer, stream, { maxFrameBytes, budget, clock, onEnd })

  return {
    open: async (node, peer, protocol, signal) => {
      const key = `${peer} ${protocol}`
      const connection = openConnection(node, peer)
      if (!outbound.enter(key, maxChannelsPerPeer)) throw tooMany(peer, protocol, maxChannelsPerPeer)
      try {
        const stream = await connection.newStream(protocol, {
          maxOutboundStreams: maxChannelsPerPeer,
          ...(signal === undefined ? {} : { signal })
        })
        const giveUp = () => channel.abort(asError(signal?.reason))
        const channel = wrap(peer, stream, () => {
          outbound.leave(key)
          signal?.removeEventListener('abort', giveUp)
        })
        signal?.addEventListener('abort', giveUp, { once: true })
        return channel
      } catch (error) {
        outbound.leave(key)
        throw openFailure(peer, protocol, error)
      }
    },
    answer: (node, protocol, handler) =>
      node.handle(
        protocol,
        ({ stream, connection }) => {
          const peer = connection.remotePeer.toString()
          const key = `${peer} ${protocol}`
          if (!inbound.enter(key, maxChannelsPerPeer)) {
            log.debug({ peer, protocol, limit: maxChannelsPerPeer }, 'Refused a channel: too many are open')
            return stream.abort(tooMany(peer, protocol, maxChannelsPerPeer))
          }
          void converse(
            wrap(peer, stream, () => inbound.leave(key)),
            handler,
            { protocol, log }
          )
        },
        {
          maxInboundStreams: maxChannelsPerPeer,
          maxOutboundStreams: maxChannelsPerPeer,
          // A relayed connection is cut after some 100 KB: an update would never arrive.
          runOnLimitedConnection: false
        }
      )
  }
}

function openConnection(node: Node, peer: PeerId): Connection {
  const connection = connectionsOf(node, peer).find(({ status }) => status === 'open')
  if (connection === undefined) throw channelError('gossip/not-connected', peer, 'this peer is not connected')
  return connection
}

/** Every connection with a peer; none for a text that is no peer id. */
export function connectionsOf(node: Node, peer: PeerId): readonly Connection[] {
  try {
    return node.getConnections(peerIdFromString(peer))
  } catch {
    return []
  }
}

const tooMany = (peer: PeerId, protocol: string, limit: number) =>
  channelError('gossip/too-many-channels', peer, `${limit} channels of ${protocol} are open already`)

function openFailure(peer: PeerId, protocol: string, error: unknown): PeertuneError {
  const name = error instanceof Error ? error.name : ''
  if (name === 'UnsupportedProtocolError') {
    return channelError('gossip/unsupported-protocol', peer, `it does not speak ${protocol}`, error)
  }
  if (name === 'TooManyOutboundProtocolStreamsError') {
    return channelError('gossip/too-many-channels', peer, `too many channels of ${protocol} are open`, error)
  }
  return channelError('gossip/open-failed', peer, `opening ${protocol} failed (${describeError(error)})`, error)
}

/** How many are inside, per key. */
function createCensus() {
  const inside = new Map<string, number>()
  return {
    enter: (key: string, limit: number): boolean => {
      const count = inside.get(key) ?? 0
      if (count >= limit) return false
      inside.set(key, count + 1)
      return true
    },
    leave: (key: string) => {
      const count = (inside.get(key) ?? 0) - 1
      if (count > 0) inside.set(key, count)
      else inside.delete(key)
    }
  }
}
