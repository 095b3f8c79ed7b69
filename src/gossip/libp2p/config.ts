import '../../base/polyfill.js'
import { gossipsub, type GossipsubOpts } from '@chainsafe/libp2p-gossipsub'
import { createTopicScoreParams } from '@chainsafe/libp2p-gossipsub/score'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { ConnectionGater, Metrics, PrivateKey } from '@libp2p/interface'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { boundedDatastore } from './datastore.js'
import { MAX_CHANNELS_PER_PEER, MAX_GOSSIP_RPC_BYTES, MAX_PENDING_CONNECTIONS, MAX_RECORDS } from '../limits.js'
import { DHT_PROTOCOL } from '../topics.js'

/** Milliseconds; the longest that a timer can wait, 25 days. */
const NEVER_MS = 2 ** 31 - 1

export interface NodeSettings {
  readonly privateKey: PrivateKey
  readonly listen: readonly string[]
  readonly announce: readonly string[]
  readonly networkKey: Uint8Array | undefined
  readonly topics: readonly string[]
  readonly version: string
  readonly maxConnections: number
  readonly maxInboundConnectionsPerSecond: number
  /** Looks for its nearest peers in the DHT by itself, soon and again, and dials those it is told of. */
  readonly selfQueries: boolean
  readonly dialTimeoutMs: number
  readonly gater: ConnectionGater
  readonly metrics: () => Metrics
}

export type Node = Awaited<ReturnType<typeof createNode>>

/** One libp2p node with every setting that experience showed to be necessary, each with its reason. Not started. */
export async function createNode(settings: NodeSettings) {
  const { networkKey, dialTimeoutMs } = settings
  return createLibp2p({
    start: false,
    privateKey: settings.privateKey,
    nodeInfo: { name: 'peertune', version: settings.version },
    addresses: { listen: [...settings.listen], announce: [...settings.announce] },
    // Strangers write into it (peer records, DHT providers): the default in-memory store grows without end.
    datastore: boundedDatastore(MAX_RECORDS),
    metrics: settings.metrics,
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [
      yamux({
        // 256 KiB messages instead of 64 KiB: measured 1.4 times the throughput for large updates.
        maxMessageSize: 262_144,
        // Windows start at 256 KiB, which bounds what a stranger can leave unread, and grow with use to 4 MiB.
        maxStreamWindowSize: 4_194_304,
        // All protocols together need about a hundred streams with one peer; the default of 1,000 is for browsers.
        maxInboundStreams: 128,
        maxOutboundStreams: 128
      })
    ],
    // The nonce exchange gets 1 s by default, which a busy machine misses.
    ...(networkKey === undefined
      ? {}
      : { connectionProtector: preSharedKey({ psk: networkKey, timeout: dialTimeoutMs / 2 }) }),
    connectionGater: settings.gater,
    connectionManager: {
      maxConnections: settings.maxConnections,
      inboundConnectionThreshold: settings.maxInboundConnectionsPerSecond,
      maxIncomingPendingConnections: MAX_PENDING_CONNECTIONS,
      dialTimeout: dialTimeoutMs,
      // What the other side of a dial may take: who waits for slow peers waits for them here, too.
      inboundUpgradeTimeout: dialTimeoutMs,
      protocolNegotiationTimeout: dialTimeoutMs,
      // libp2p's reconnection gives up within 100 ms with its defaults; redialling is ours (bootstrap, discovery).
      reconnectRetries: 0
    },
    // Measured: with aborting on, a busy connection misses a ping, is dropped, and a third of the messages are lost.
    // The pings go on, so that a dead peer is one that sends nothing at all for DEAD_PEER_MS.
    connectionMonitor: { abortConnectionOnPingFailure: false },
    services: {
      // libp2p identifies every connection by itself and connect() asks once more; the default allows one at a time.
      identify: identify({
        agentVersion: `peertune/${settings.version}`,
        maxInboundStreams: 4,
        maxOutboundStreams: 4,
        timeout: dialTimeoutMs / 2
      }),
      ping: ping(),
      dht: kadDHT({
        protocol: DHT_PROTOCOL,
        // Everybody serves: there is nobody else. The automatic choice would make a node without a public address mute.
        clientMode: false,
        // The default mapper drops private addresses: nothing would be found on loopback or in a local network.
        peerInfoMapper: passthroughMapper,
        // Otherwise every query before the first self-query waits for it.
        allowQueryWithZeroPeers: true,
        maxInboundStreams: MAX_CHANNELS_PER_PEER,
        ...(settings.selfQueries ? {} : { initialQuerySelfInterval: NEVER_MS, querySelfInterval: NEVER_MS })
      }),
      pubsub: gossipsub(gossipsubOptions(settings.topics))
    }
  })
}

function gossipsubOptions(topics: readonly string[]): Partial<GossipsubOpts> {
  return {
    // Every message is signed by its author and checked by everybody who passes it on.
    globalSignaturePolicy: 'StrictSign',
    // CVE-2026-46679: without this list a peer can make us remember any number of topics, even after it has gone.
    allowedTopics: new Set(topics),
    // The second half of the same hole: every one of these limits is Infinity by default.
    decodeRpcLimits: {
      maxSubscriptions: 64,
      maxMessages: 256,
      maxIhaveMessageIDs: 256,
      maxIwantMessageIDs: 256,
      maxIdontwantMessageIDs: 256,
      maxControlMessages: 64,
      maxPeerInfos: 16
    },
    // Bytes of one RPC (default 4 MiB); whoever exceeds it is cut off from pubsub, so publish() checks first.
    maxInboundDataLength: MAX_GOSSIP_RPC_BYTES,
    // Bytes waiting for a slow peer (default: no limit). Its messages are lost then, which announcements survive.
    maxOutboundBufferSize: 4 * MAX_GOSSIP_RPC_BYTES,
    maxInboundStreams: 4,
    maxOutboundStreams: 4,
    // One RPC of a peer at a time: signatures are not checked for a thousand messages of one flood at once.
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    // Being alone is a state, not an error.
    allowPublishToZeroTopicPeers: true,
    // The default sends our own messages to every connected peer instead of the mesh.
    floodPublish: false,
    emitSelf: false,
    // Peer exchange in PRUNE messages would have us dial addresses that strangers made up.
    doPX: false,
    scoreParams: {
      // The default punishes more than ten peers on one address: twenty nodes on one machine or behind one NAT end up
      // with empty meshes and no error.
      IPColocationFactorWeight: 0,
      topics: Object.fromEntries(topics.map((topic) => [topic, TOPIC_SCORE]))
    }
  }
}

/**
 * Without an entry per topic a rejected message costs nothing. The defaults of the delivery penalties (P3, P3b) expect
 * 20 messages a heartbeat from every mesh peer; announcements are rarer, so these are off.
 */
const TOPIC_SCORE = createTopicScoreParams({
  topicWeight: 1,
  timeInMeshWeight: 0.01,
  timeInMeshQuantum: 1_000,
  timeInMeshCap: 600,
  firstMessageDeliveriesWeight: 0.1,
  firstMessageDeliveriesDecay: 0.9,
  firstMessageDeliveriesCap: 50,
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesThreshold: 1,
  meshFailurePenaltyWeight: 0,
  // The square of the count is weighed: one bad message -20, two -80, which is the graylist threshold.
  invalidMessageDeliveriesWeight: -20,
  invalidMessageDeliveriesDecay: 0.97
})
