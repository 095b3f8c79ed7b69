import { describeError, PeertuneError } from '../../base/errors.js'
import { createBans } from '../bans.js'
import { asError, type ChannelHandler, channelError, converse } from '../channel.js'
import { MAX_ANNOUNCEMENT_BYTES, MAX_CHANNELS_PER_PEER } from '../limits.js'
import { createListeners } from '../listeners.js'
import { createChannelPair } from './channel.js'
import type { Announcement, MemoryJoin, MemoryPeer, MemoryWorld } from './world.js'
import { alreadyRegistered, announcementTooLarge, topicNotAllowed } from '../refusals.js'
import type { Channel, ConnectFailureCode, ConnectOutcome, PeerId, Transport } from '../transport.js'

/** Announcements remembered as seen; the oldest goes first. */
const MAX_SEEN = 16_384

export interface MemoryPeerOptions extends MemoryJoin {
  readonly maxFrameBytes: number
}

interface Traffic {
  bytesSent: number
  bytesReceived: number
}

type State = ReturnType<typeof createState>

function createState(world: MemoryWorld, options: MemoryPeerOptions) {
  return {
    world,
    options,
    self: options.name,
    status: 'new' as 'new' | 'running' | 'stopped',
    /** Connected peers, and how to break each channel shared with them. */
    links: new Map<PeerId, Set<(reason: string) => void>>(),
    subscriptions: new Map<string, Parameters<Transport['subscribe']>>(),
    handlers: new Map<string, ChannelHandler>(),
    channels: new Map<string, number>(),
    seen: new Set<string>(),
    total: { bytesSent: 0, bytesReceived: 0 } as Traffic,
    traffic: new Map<PeerId, Traffic>(),
    bans: createBans(world.clock),
    listeners: createListeners<'connect' | 'disconnect', PeerId>(world.log),
    published: 0
  }
}

/** A member of an in-memory network; the promises of `Transport` kept with plain calls. */
export function createMemoryTransport(world: MemoryWorld, options: MemoryPeerOptions): MemoryPeer {
  const state = createState(world, options)
  const transport: Transport = {
    self: state.self,
    start: async () => {
      if (state.status === 'new') state.status = 'running'
    },
    stop: async () => {
      state.status = 'stopped'
      for (const peer of [...state.links.keys()]) disconnect(state, peer)
    },
    addresses: () => (state.status === 'running' ? [`/memory/${state.self}/p2p/${state.self}`] : []),
    connect: (address) => connect(state, address),
    connected: () => [...state.links.keys()],
    subscribers: (topic) => [...state.links.keys()].filter((peer) => world.find(peer)?.listensTo(topic) === true),
    publish: (topic, bytes) => publish(state, topic, bytes),
    subscribe: (topic, validate, deliver) => {
      checkTopic(state, topic)
      if (state.subscriptions.has(topic)) throw alreadyRegistered('topic', topic)
      state.subscriptions.set(topic, [topic, validate, deliver])
    },
    open: (peer, protocol, signal) => open(state, peer, protocol, signal),
    handle: (protocol, handler) => {
      if (state.handlers.has(protocol)) throw alreadyRegistered('protocol', protocol)
      state.handlers.set(protocol, handler)
    },
    ban: (peer, forMs) => {
      state.bans.add(peer, forMs)
      disconnect(state, peer)
    },
    on: state.listeners.on,
    traffic: (peer) => ({
      ...(peer === undefined ? state.total : (state.traffic.get(peer) ?? { bytesSent: 0, bytesReceived: 0 }))
    })
  }
  return { transport, ...asSeenByOthers(state) }
}

function asSeenByOthers(state: State): Omit<MemoryPeer, 'transport'> {
  const { world, links, listeners } = state
  return {
    networkKey: state.options.networkKey,
    maxFrameBytes: state.options.maxFrameBytes,
    isRunning: () => state.status === 'running',
    isBanned: (peer) => state.bans.remainingMs(peer) > 0,
    speaks: (protocol) => state.handlers.has(protocol),
    listensTo: (topic) => state.subscriptions.has(topic),
    isConnected: (peer) => links.has(peer),
    link: (peer) => {
      if (links.has(peer)) return
      links.set(peer, new Set())
      listeners.emit('connect', peer)
    },
    unlink: (peer) => {
      const breakers = links.get(peer)
      if (breakers === undefined) return
      links.delete(peer)
      for (const breakIt of breakers) breakIt('the connection ended')
      listeners.emit('disconnect', peer)
    },
    hear: (announcement, passedOnBy, again) => hear(state, announcement, passedOnBy, again),
    answer: (channel, protocol) => {
      const handler = state.handlers.get(protocol)
      if (handler !== undefined) void converse(channel, handler, { protocol, log: world.log })
    },
    count: (direction, other, bytes) => count(state, direction, other, bytes),
    dropUnreachable: () => {
      for (const peer of [...links.keys()]) if (!world.reachable(state.self, peer)) disconnect(state, peer)
    }
  }
}

function count(state: State, direction: 'sent' | 'received', other: PeerId, bytes: number): void {
  const own = state.traffic.get(other) ?? { bytesSent: 0, bytesReceived: 0 }
  state.traffic.set(other, own)
  const field = direction === 'sent' ? 'bytesSent' : 'bytesReceived'
  own[field] += bytes
  state.total[field] += bytes
}

function disconnect(state: State, peer: PeerId): void {
  const me = state.world.find(state.self)
  const other = state.world.find(peer)
  me?.unlink(peer)
  other?.unlink(state.self)
}

function requireRunning({ status }: State): void {
  if (status !== 'running') throw new PeertuneError('gossip/not-running', 'The transport is not running')
}

function checkTopic({ options: { topics } }: State, topic: string): void {
  if (topics !== undefined && !topics.includes(topic)) throw topicNotAllowed(topic, topics)
}

async function connect(state: State, address: string): Promise<ConnectOutcome> {
  requireRunning(state)
  const { world, self } = state
  const failed = (code: ConnectFailureCode, detail: string): ConnectOutcome => ({ ok: false, code, address, detail })
  const parsed = /^\/memory\/([^/]+)(?:\/p2p\/([^/]+))?$/.exec(address)
  const name = parsed?.[1]
  if (name === undefined) return failed('bad-address', `"${address}" is not an address such as /memory/a/p2p/a`)
  const expected = parsed?.[2] ?? name
  if (expected === self) return failed('self', `${address} is this node's own address`)
  if (state.bans.remainingMs(expected) > 0) return failed('banned', `This node banned ${expected}`)
  await passTime(state)
  const other = world.find(name)
  if (other === undefined || !other.isRunning() || world.refuses(name)) {
    return failed('connection-refused', `Nothing listens at ${address}: the connection was refused`)
  }
  if (!world.reachable(self, name)) return failed('timeout', `No answer from ${address}`)
  if (other.networkKey !== state.options.networkKey) {
    return failed('wrong-network-key', `The node at ${address} has another network key than this one`)
  }
  if (expected !== name) return failed('wrong-peer-id', `${address} was to lead to ${expected}, but ${name} answered`)
  if (other.isBanned(self)) {
    return failed(
      'unreachable',
      `The node at ${address} closed the connection after the handshake: it refuses this one`
    )
  }
  requireRunning(state)
  world.find(self)?.link(name)
  other.link(self)
  return { ok: true, peer: name }
}

/** One latency; without any, nothing waits for a timer. */
async function passTime({ world }: State): Promise<void> {
  const ms = world.latencyMs()
  if (ms > 0) await world.clock.sleep(ms)
}

async function publish(state: State, topic: string, bytes: Uint8Array): Promise<void> {
  requireRunning(state)
  checkTopic(state, topic)
  if (bytes.length > MAX_ANNOUNCEMENT_BYTES) throw announcementTooLarge(topic, bytes.length)
  const announcement = { id: `${state.self}/${state.published++}`, topic, author: state.self, bytes: bytes.slice() }
  remember(state, announcement.id)
  passOn(state, announcement, state.self)
}

function passOn(state: State, announcement: Announcement, from: PeerId): void {
  const { world, self } = state
  for (const peer of state.links.keys()) {
    const other = world.find(peer)
    if (peer === from || peer === announcement.author || other?.listensTo(announcement.topic) !== true) continue
    const arrivals = world.arrivals()
    for (let arrival = 0; arrival < arrivals; arrival++) {
      count(state, 'sent', peer, announcement.bytes.length)
      const arrive = () => other.hear(announcement, self, arrival > 0)
      const ms = world.latencyMs()
      void (ms > 0 ? world.clock.sleep(ms) : Promise.resolve()).then(arrive)
    }
  }
}

function hear(state: State, announcement: Announcement, passedOnBy: PeerId, again: boolean): void {
  const { world, links, bans, seen, status } = state
  const { id, topic, author, bytes } = announcement
  const subscription = state.subscriptions.get(topic)
  if (status !== 'running' || subscription === undefined || !links.has(passedOnBy)) return
  count(state, 'received', passedOnBy, bytes.length)
  if ((seen.has(id) && !again) || bans.remainingMs(author) > 0) return
  remember(state, id)
  const [, validate, deliver] = subscription
  try {
    const verdict = validate(author, bytes.slice())
    if (verdict.verdict === 'reject') world.rejected(passedOnBy)
    if (verdict.verdict !== 'accept') return
    deliver(author, bytes.slice())
  } catch (error) {
    // A validator or a delivery that throws is our own bug: the sender is not to blame.
    world.log.error({ topic, from: author }, `A subscription failed: ${describeError(error)}`)
    return
  }
  passOn(state, announcement, passedOnBy)
}

function remember({ seen }: State, id: string): void {
  seen.add(id)
  if (seen.size > MAX_SEEN) seen.delete(seen.values().next().value as string)
}

async function open(state: State, peer: PeerId, protocol: string, signal?: AbortSignal): Promise<Channel> {
  requireRunning(state)
  const other = linked(state, peer)
  const leave = reserve(state, peer, protocol)
  try {
    await passTime(state)
    signal?.throwIfAborted()
    if (!state.links.has(peer)) throw channelError('gossip/open-failed', peer, 'the connection ended')
    if (!other.speaks(protocol)) {
      throw channelError('gossip/unsupported-protocol', peer, `it does not speak ${protocol}`)
    }
  } catch (error) {
    leave()
    if (error instanceof PeertuneError) throw error
    throw channelError('gossip/open-failed', peer, `opening ${protocol} failed (${describeError(error)})`, error)
  }
  return joinEnds(state, other, { peer, protocol, leave, ...(signal && { signal }) })
}

function linked({ world, links }: State, peer: PeerId): MemoryPeer {
  const other = world.find(peer)
  if (other !== undefined && links.has(peer)) return other
  throw channelError('gossip/not-connected', peer, 'this peer is not connected')
}

/** Takes one of the channels that a peer may have of a protocol; the function returned gives it back. */
function reserve({ channels, options }: State, peer: PeerId, protocol: string): () => void {
  const key = `${peer} ${protocol}`
  const limit = options.maxChannelsPerPeer ?? MAX_CHANNELS_PER_PEER
  if ((channels.get(key) ?? 0) >= limit) {
    throw channelError('gossip/too-many-channels', peer, `${limit} channels of ${protocol} are open already`)
  }
  channels.set(key, (channels.get(key) ?? 0) + 1)
  return () => channels.set(key, (channels.get(key) ?? 1) - 1)
}

interface Opening {
  readonly peer: PeerId
  readonly protocol: string
  readonly leave: () => void
  readonly signal?: AbortSignal
}

/** The two ends of a channel; the other's is handed to its handler. */
function joinEnds(state: State, other: MemoryPeer, { peer, protocol, leave, signal }: Opening): Channel {
  const { world, self, options } = state
  const breakers = state.links.get(peer)
  const cutAfter = world.cutAfter(self, peer, protocol)
  const pair = createChannelPair({
    ends: [self, peer],
    maxFrameBytes: [options.maxFrameBytes, other.maxFrameBytes],
    clock: world.clock,
    latencyMs: world.latencyMs,
    ...(cutAfter === undefined ? {} : { cutAfter }),
    onBytes: (direction, at, with_, bytes) => world.find(at)?.count(direction, with_, bytes),
    onEnd: () => {
      leave()
      breakers?.delete(pair.break)
      signal?.removeEventListener('abort', giveUp)
    }
  })
  const giveUp = () => pair.opener.abort(asError(signal?.reason))
  signal?.addEventListener('abort', giveUp, { once: true })
  breakers?.add(pair.break)
  other.answer(pair.answerer, protocol)
  return pair.opener
}
