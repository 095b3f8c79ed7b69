import '../../base/polyfill.js'
import type { GossipSub } from '@chainsafe/libp2p-gossipsub'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { Clock } from '../../base/clock.js'
import { describeError, PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import type { Rng } from '../../base/rng.js'
import { reject, type Verdict } from '../../base/verdict.js'
import { createBans } from '../bans.js'
import { type BootstrapDiagnosis, createBootstrap } from '../discovery/bootstrap.js'
import type { Discovery } from '../discovery/discovery.js'
import type { ChannelHandler } from '../channel.js'
import { connectionsOf, createChannels } from './channels.js'
import { createNode, type Node } from './config.js'
import { createDialer } from './dialer.js'
import { parseIdentity, parseNetworkKey } from './identity.js'
import { startFailure } from './listen.js'
import { createMeter } from './meter.js'
import { bindSubscription, type Subscription } from './pubsub.js'
import { keepUp } from './upkeep.js'
import {
  DIAL_TIMEOUT_MS,
  FLOOD_BAN_MS,
  MAX_ANNOUNCEMENT_BYTES,
  MAX_BOOTSTRAP_ADDRESSES,
  MAX_CONNECTIONS,
  MAX_CONNECTIONS_PER_PEER,
  MAX_FRAME_BYTES,
  MAX_INBOUND_CONNECTIONS_PER_SECOND,
  PROBE_TIMEOUT_MS,
  TARGET_PEERS
} from '../limits.js'
import { createListeners } from '../listeners.js'
import { alreadyRegistered, announcementTooLarge, topicNotAllowed } from '../refusals.js'
import type { PeerId, Transport } from '../transport.js'

export interface Libp2pLimits {
  readonly maxConnections?: number
  readonly maxInboundConnectionsPerSecond?: number
  readonly maxFrameBytes?: number
  /** For one dial, and for each step of a handshake that somebody else began. */
  readonly dialTimeoutMs?: number
  readonly probeTimeoutMs?: number
  /** Peers of the own federation discovery stays connected to; 0: it connects to nobody by itself. */
  readonly targetPeers?: number
}

export interface Libp2pTransportOptions {
  /** Made by `createIdentity`. */
  readonly identity: Uint8Array
  /** Multiaddrs to listen on; port 0 takes a free one. */
  readonly listen?: readonly string[]
  /** Multiaddrs others should dial instead of the ones listened on (a forwarded port). */
  readonly announce?: readonly string[]
  readonly bootstrap?: readonly string[]
  /** Text of a libp2p pre-shared key ("swarm.key"): only nodes with the same one can connect. */
  readonly networkKey?: string
  /** The only pubsub topics this node will ever hear of; `federationTopics(hash)`. */
  readonly topics: readonly string[]
  /** Version of this software, for other nodes to see. */
  readonly version: string
  /** File of the peers of the last run, dialled at the start; written while running. Without it nothing is kept. */
  readonly knownPeersPath?: string
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** A peer broke a rule of the transport itself; `bannedForMs`: it has been turned away for it. */
  readonly onOffence?: (peer: PeerId, verdict: Verdict, bannedForMs?: number) => void
  readonly limits?: Libp2pLimits
}

export interface Libp2pTransport extends Transport {
  /** How every bootstrap address is doing, in words. */
  bootstrap(): readonly BootstrapDiagnosis[]
  /** Turns exactly these peers away from now on and hangs up on them; whoever is not named any more is welcome again. */
  deny(peers: ReadonlySet<PeerId>): void
}

/**
 * Transport over libp2p: TCP, noise, yamux, gossipsub, and a DHT of our own to find peers. Throws `config/*` for a bad
 * identity, network key or list of bootstrap addresses; `start` does for an address that cannot be listened on.
 */
export function createLibp2pTransport(options: Libp2pTransportOptions): Libp2pTransport {
  const parts = assemble(options)
  const { bans, bootstrap, dialer, listeners, meter, self } = parts
  return {
    self,
    ...lifecycle(options, parts),
    addresses: () => parts.node?.getMultiaddrs().map(String) ?? [],
    connect: (address) => dialer.connect(running(parts), address),
    connected: () => connectedPeers(parts),
    bootstrap: bootstrap.diagnosis,
    ...announcements(options, parts),
    ...conversations(options, parts),
    ban: (peer, forMs) => {
      bans.add(peer, forMs)
      hangUp(parts, peer, new Error('banned'))
    },
    deny: (peers) => {
      bans.deny(peers)
      for (const peer of connectedPeers(parts)) if (peers.has(peer)) hangUp(parts, peer, new Error('denied'))
    },
    on: listeners.on,
    traffic: (peer) => (peer === undefined ? meter.total() : meter.of(peer))
  }
}

type Parts = ReturnType<typeof assemble>

/** The pieces, wired to each other but not to a node: that one is made by `start`. */
function assemble(options: Libp2pTransportOptions) {
  const { clock, rng, log, limits = {} } = options
  const privateKey = parseIdentity(options.identity)
  const networkKey = options.networkKey === undefined ? undefined : parseNetworkKey(options.networkKey)
  const self = peerIdFromPrivateKey(privateKey).toString()
  const bans = createBans(clock)
  const stopping = new AbortController()
  const meter = createMeter(clock, (peer, about) => {
    if (stopping.signal.aborted || bans.remainingMs(peer) > 0) return
    log.warn({ peer, about }, 'Banned a peer that broke the bounds of pubsub')
    bans.add(peer, FLOOD_BAN_MS)
    options.onOffence?.(peer, reject(about), FLOOD_BAN_MS)
    hangUp(parts, peer, new Error('broke the bounds of pubsub'))
  })
  const dialer = createDialer({
    self,
    bans,
    hasNetworkKey: networkKey !== undefined,
    timeoutMs: limits.dialTimeoutMs ?? DIAL_TIMEOUT_MS,
    probeTimeoutMs: limits.probeTimeoutMs ?? PROBE_TIMEOUT_MS,
    clock,
    stopped: stopping.signal
  })
  const bootstrap = createBootstrap({
    addresses: checkBootstrap(options.bootstrap ?? []),
    connect: (address) => dialer.connect(running(parts), address),
    connected: () => connectedPeers(parts),
    clock,
    rng,
    log
  })
  const parts = {
    self,
    privateKey,
    networkKey,
    bans,
    meter,
    dialer,
    bootstrap,
    stopping,
    channels: createChannels({ maxFrameBytes: limits.maxFrameBytes ?? MAX_FRAME_BYTES, clock, log }),
    listeners: createListeners<'connect' | 'disconnect', PeerId>(log),
    subscriptions: new Map<string, Subscription>(),
    handlers: new Map<string, ChannelHandler>(),
    node: undefined as Node | undefined,
    /** Handlers added from now on are registered at once; earlier ones by `start`. */
    answering: false,
    tasks: Promise.resolve() as Promise<unknown>
  }
  return parts
}

function checkBootstrap(addresses: readonly string[]): readonly string[] {
  if (addresses.length <= MAX_BOOTSTRAP_ADDRESSES) return addresses
  throw new PeertuneError('config/too-many-bootstrap-addresses', 'There are too many bootstrap addresses', {
    facts: { expected: `at most ${MAX_BOOTSTRAP_ADDRESSES}`, got: addresses.length },
    hint: 'One that is always on is enough; the others are found through it'
  })
}

function running({ node, stopping }: Parts): Node {
  if (node !== undefined && !stopping.signal.aborted) return node
  throw new PeertuneError('gossip/not-running', 'The transport is not running')
}

const connectedPeers = ({ node }: Parts): readonly PeerId[] => node?.getPeers().map(String) ?? []

function hangUp({ node }: Parts, peer: PeerId, reason: Error): void {
  if (node === undefined) return
  for (const connection of connectionsOf(node, peer)) connection.abort(reason)
}

function lifecycle(options: Libp2pTransportOptions, parts: Parts): Pick<Transport, 'start' | 'stop'> {
  const { listeners, handlers, subscriptions, stopping, channels } = parts
  const { limits = {}, listen = ['/ip4/0.0.0.0/tcp/0'], announce = [], topics, version, log } = options
  return {
    start: async () => {
      if (parts.node !== undefined || stopping.signal.aborted) return
      const node = await createNode({
        privateKey: parts.privateKey,
        networkKey: parts.networkKey,
        listen,
        announce,
        topics,
        version,
        maxConnections: limits.maxConnections ?? MAX_CONNECTIONS,
        maxInboundConnectionsPerSecond: limits.maxInboundConnectionsPerSecond ?? MAX_INBOUND_CONNECTIONS_PER_SECOND,
        selfQueries: limits.targetPeers !== 0,
        dialTimeoutMs: limits.dialTimeoutMs ?? DIAL_TIMEOUT_MS,
        gater: parts.dialer.gater,
        metrics: parts.meter.metrics
      })
      parts.node = node
      node.addEventListener('peer:connect', ({ detail }) => listeners.emit('connect', detail.toString()))
      node.addEventListener('peer:disconnect', ({ detail }) => listeners.emit('disconnect', detail.toString()))
      node.addEventListener('connection:open', ({ detail }) => {
        // The gater was asked at the handshake; a ban may have come since.
        if (parts.bans.remainingMs(detail.remotePeer.toString()) > 0) return detail.abort(new Error('banned'))
        const crowd = node.getConnections(detail.remotePeer).length
        if (crowd > MAX_CONNECTIONS_PER_PEER) detail.abort(new Error('too many connections with one peer'))
      })
      for (const [protocol, handler] of handlers) await channels.answer(node, protocol, handler)
      parts.answering = true
      try {
        await node.start()
      } catch (cause) {
        parts.node = undefined
        throw await startFailure(listen, cause)
      }
      for (const [topic, subscription] of subscriptions) bind(options, parts, topic, subscription)
      parts.tasks = live(options, parts, node).catch((error: unknown) => {
        log.error({ error: describeError(error) }, 'Looking for peers ended')
      })
    },
    stop: async () => {
      stopping.abort(new Error('the transport stops'))
      await parts.tasks
      await parts.node?.stop()
    }
  }
}

/** Looks for peers and keeps the bootstrap addresses connected, until the transport stops. */
async function live(options: Libp2pTransportOptions, parts: Parts, node: Node): Promise<void> {
  const { bootstrap, listeners, stopping } = parts
  let discovery: Discovery | undefined
  listeners.on('connect', () => discovery?.changed())
  listeners.on('disconnect', () => {
    discovery?.changed()
    bootstrap.peerLost()
  })
  const upkeep = {
    ...parts,
    ...options,
    node,
    knownPeersPath: options.knownPeersPath,
    target: options.limits?.targetPeers ?? TARGET_PEERS,
    useful: () => new Set(options.topics.flatMap((topic) => subscribersOf(parts, topic))).size,
    connected: () => connectedPeers(parts),
    onDiscovery: (running: Discovery) => {
      discovery = running
    }
  }
  await Promise.all([bootstrap.run(stopping.signal), keepUp(upkeep, stopping.signal)])
}

function subscribersOf({ node }: Parts, topic: string): readonly PeerId[] {
  return node?.status === 'started' ? node.services.pubsub.getSubscribers(topic).map(String) : []
}

function announcements(
  options: Libp2pTransportOptions,
  parts: Parts
): Pick<Transport, 'publish' | 'subscribe' | 'subscribers'> {
  const { topics } = options
  return {
    subscribers: (topic) => subscribersOf(parts, topic),
    publish: async (topic, bytes) => {
      if (!topics.includes(topic)) throw topicNotAllowed(topic, topics)
      if (bytes.length > MAX_ANNOUNCEMENT_BYTES) throw announcementTooLarge(topic, bytes.length)
      await running(parts).services.pubsub.publish(topic, bytes)
    },
    subscribe: (topic, validate, deliver) => {
      if (!topics.includes(topic)) throw topicNotAllowed(topic, topics)
      if (parts.subscriptions.has(topic)) throw alreadyRegistered('topic', topic)
      parts.subscriptions.set(topic, { validate, deliver })
      if (parts.node?.status === 'started') bind(options, parts, topic, { validate, deliver })
    }
  }
}

function bind(
  { log, onOffence }: Libp2pTransportOptions,
  parts: Parts,
  topic: string,
  subscription: Subscription
): void {
  const pubsub = running(parts).services.pubsub as GossipSub
  const isBanned = (peer: PeerId) => parts.bans.remainingMs(peer) > 0
  bindSubscription(pubsub, topic, subscription, { isBanned, log, ...(onOffence && { onOffence }) })
}

function conversations({ log }: Libp2pTransportOptions, parts: Parts): Pick<Transport, 'open' | 'handle'> {
  const { channels, handlers } = parts
  return {
    open: async (peer, protocol, signal) => channels.open(running(parts), peer, protocol, signal),
    handle: (protocol, handler) => {
      if (handlers.has(protocol)) throw alreadyRegistered('protocol', protocol)
      handlers.set(protocol, handler)
      if (parts.node === undefined || !parts.answering) return
      channels.answer(parts.node, protocol, handler).catch((error: unknown) => {
        log.error({ protocol, error: describeError(error) }, 'Could not register a protocol')
      })
    }
  }
}
