import { type Rng, seededRng } from '../../base/rng.js'
import type { LinkId } from '../../consensus/exchange/types.js'
import { drawn, happens } from './draws.js'
import type { Scenario } from './scenario.js'
import type { VirtualClock } from './virtual-clock.js'

/** Position of a peer, 0 to peers - 1. */
export type PeerIndex = number

/** A message with the payload behind it, as one thing that arrives whole or not at all. */
export interface Frame {
  readonly bytes: Uint8Array
  readonly payload?: Uint8Array
}

/** What a link is for, as a stream's protocol says it. */
export type Protocol = 'mixing' | 'state'

/** What a peer hears of the network. */
export interface NetworkEnd {
  /** Somebody has opened a link to us. */
  opened(link: LinkId, from: PeerIndex, protocol: Protocol): void
  received(link: LinkId, frame: Frame): void
  /** Closed by the other end, or broken. */
  ended(link: LinkId): void
  announced(from: PeerIndex, bytes: Uint8Array): void
}

export interface LinkEnds {
  readonly from: PeerIndex
  readonly to: PeerIndex
  readonly protocol: Protocol
}

/** Counters of fixed shape. */
export interface NetworkStats {
  links: number
  frames: number
  bytes: number
  lost: number
  duplicated: number
  cut: number
}

/** Links between peers that are slow, lose, repeat, overtake and break, as the scenario says and the seed decides. */
export interface SimNetwork {
  attach(peer: PeerIndex, end: NetworkEnd): void
  /** The peer is gone with all its links. The others hear it from each link, or from its silence. */
  detach(peer: PeerIndex): void
  /** Calls back with a link, or with nothing when there was no answer. */
  open(ends: LinkEnds, done: (link: LinkId | undefined) => void): void
  send(link: LinkId, from: PeerIndex, frame: Frame): void
  /** Behind everything that `from` has sent. */
  close(link: LinkId, from: PeerIndex): void
  announce(from: PeerIndex, to: PeerIndex, bytes: Uint8Array): void
  /** Is the other there and on our side of every partition? What a daemon knows from its connections. */
  connected(from: PeerIndex, to: PeerIndex): boolean
  /** No more faults and partitions from now on. */
  heal(): void
  /** Frames on their way on a link, for a bound on them. */
  inFlight(link: LinkId): number
  readonly stats: Readonly<NetworkStats>
}

interface Link {
  readonly id: LinkId
  readonly ends: readonly [PeerIndex, PeerIndex]
  readonly latencyMs: number
  /** Whether each end still listens. */
  readonly listening: [boolean, boolean]
  /** When the last frame towards each end arrives. */
  readonly lastMs: [number, number]
  /** Frames towards one end after which the link breaks. */
  cut: { readonly side: 0 | 1; left: number } | undefined
  inFlight: number
}

/** A link that breaks does so at one of its first frames in one direction: each step of an exchange can be hit. */
const CUT_WITHIN_FRAMES = 4
/** Bytes of frame and stream headers around a message. */
const FRAME_OVERHEAD_BYTES = 60

interface Inner {
  readonly scenario: Scenario
  readonly clock: VirtualClock
  readonly rng: Rng
  readonly ends: Map<PeerIndex, NetworkEnd>
  readonly links: Map<LinkId, Link>
  /** Bytes a millisecond that a peer can send, and when it has sent what it was given. */
  readonly uplink: Float64Array
  readonly freeMs: Float64Array
  readonly stats: NetworkStats
  healed: boolean
  nextLink: LinkId
}

export function createNetwork(scenario: Scenario, clock: VirtualClock): SimNetwork {
  const rng = seededRng(scenario.seed, 'network')
  const inner: Inner = {
    scenario,
    clock,
    rng,
    ends: new Map(),
    links: new Map(),
    uplink: Float64Array.from({ length: scenario.peers }, () => drawn(rng, scenario.network.uplinkMbps) * 125),
    freeMs: new Float64Array(scenario.peers),
    stats: { links: 0, frames: 0, bytes: 0, lost: 0, duplicated: 0, cut: 0 },
    healed: false,
    nextLink: 1
  }
  return {
    attach: (peer, end) => void inner.ends.set(peer, end),
    detach: (peer) => detach(inner, peer),
    open: (ends, done) => open(inner, ends, done),
    send: (id, from, frame) => send(inner, { id, from }, frame),
    close: (id, from) => send(inner, { id, from }, undefined),
    announce: (from, to, bytes) => announce(inner, { from, to }, bytes),
    connected: (from, to) => inner.ends.has(to) && reachable(inner, from, to),
    heal() {
      inner.healed = true
    },
    inFlight: (id) => inner.links.get(id)?.inFlight ?? 0,
    stats: inner.stats
  }
}

const fault = (inner: Inner, kind: 'loss' | 'duplication' | 'reordering' | 'cut'): boolean =>
  !inner.healed && happens(inner.rng, inner.scenario.network[kind])

/** Peers are dealt out to the groups of a partition in turn. */
function reachable({ healed, scenario, clock }: Inner, a: PeerIndex, b: PeerIndex): boolean {
  if (healed) return true
  const now = clock.now()
  return scenario.partitions.every(
    ({ atMs, forMs, groups }) => now < atMs || now >= atMs + forMs || a % groups === b % groups
  )
}

/** A pair's latency is the same whenever it meets. */
function latencyOf({ scenario }: Inner, a: PeerIndex, b: PeerIndex): number {
  const [low, high] = a < b ? [a, b] : [b, a]
  return drawn(seededRng(scenario.seed, 'latency', low, high), scenario.network.latencyMs)
}

const delayOf = ({ rng, scenario }: Inner, latencyMs: number): number =>
  latencyMs * (1 + scenario.network.jitter * rng.uniform())

function open(inner: Inner, { from, to, protocol }: LinkEnds, done: (link: LinkId | undefined) => void): void {
  const { clock, scenario, ends, links, stats } = inner
  const latencyMs = latencyOf(inner, from, to)
  const caller = ends.get(from)
  // Across a partition nothing answers; a host whose program is down refuses at once.
  if (!reachable(inner, from, to)) return clock.after(scenario.network.frameTimeoutMs, () => done(undefined))
  clock.after(delayOf(inner, 2 * latencyMs), () => {
    const answerer = ends.get(to)
    if (answerer === undefined || ends.get(from) !== caller) return done(undefined)
    const id = inner.nextLink++
    const now = clock.now()
    links.set(id, {
      id,
      ends: [from, to],
      latencyMs,
      listening: [true, true],
      lastMs: [now, now],
      cut: fault(inner, 'cut')
        ? { side: inner.rng.integer(2) as 0 | 1, left: inner.rng.integer(CUT_WITHIN_FRAMES) }
        : undefined,
      inFlight: 0
    })
    stats.links++
    answerer.opened(id, from, protocol)
    done(id)
  })
}

const sideOf = (link: Link, peer: PeerIndex): 0 | 1 => (link.ends[0] === peer ? 0 : 1)

/** Who says something, and on which link. */
interface Sender {
  readonly id: LinkId
  readonly from: PeerIndex
}

/** `undefined` for the end of what `from` has to say. */
function send(inner: Inner, { id, from }: Sender, frame: Frame | undefined): void {
  const { clock, scenario, rng, stats, freeMs, uplink } = inner
  const link = inner.links.get(id)
  if (link === undefined) return
  const side = sideOf(link, from)
  const other = side === 0 ? 1 : 0
  if (!link.listening[side]) return
  if (frame === undefined) link.listening[side] = false
  const size = FRAME_OVERHEAD_BYTES + (frame?.bytes.length ?? 0) + (frame?.payload?.length ?? 0)
  const sentMs = Math.max(clock.now(), freeMs[from]!) + size / uplink[from]!
  freeMs[from] = sentMs
  stats.frames++
  stats.bytes += size
  if (breaksNow(link, other)) return breakLink(inner, link)
  if (fault(inner, 'loss') || !reachable(inner, link.ends[0], link.ends[1])) {
    stats.lost++
    return reap(inner, link)
  }
  const late = fault(inner, 'reordering') ? delayOf(inner, link.latencyMs) * (1 + 2 * rng.uniform()) : 0
  const arrivesMs = Math.max(sentMs + delayOf(inner, link.latencyMs), link.lastMs[other])
  // What is late is overtaken: the next frame need not wait for it.
  if (late === 0) link.lastMs[other] = arrivesMs
  const delayMs = arrivesMs + late - clock.now()
  deliver(inner, { link, side: other, frame }, delayMs)
  if (frame !== undefined && fault(inner, 'duplication')) {
    stats.duplicated++
    deliver(inner, { link, side: other, frame }, delayMs + rng.uniform() * 4 * scenario.network.latencyMs[1])
  }
}

function breaksNow(link: Link, towards: 0 | 1): boolean {
  if (link.cut?.side !== towards) return false
  return link.cut.left-- === 0
}

/** Both ends hear of it, each in its time; what is still on its way is lost or not, as it happens to be. */
function breakLink(inner: Inner, link: Link): void {
  inner.stats.cut++
  for (const side of [0, 1] as const) deliver(inner, { link, side, frame: undefined }, delayOf(inner, link.latencyMs))
}

/** What is on its way to one side of a link; without a frame, the end. */
interface Delivery {
  readonly link: Link
  readonly side: 0 | 1
  readonly frame: Frame | undefined
}

function deliver(inner: Inner, { link, side, frame }: Delivery, delayMs: number): void {
  link.inFlight++
  inner.clock.after(delayMs, () => {
    link.inFlight--
    if (link.listening[side]) {
      if (frame === undefined) link.listening[side] = false
      const end = inner.ends.get(link.ends[side])
      if (frame === undefined) end?.ended(link.id)
      else end?.received(link.id, frame)
    }
    reap(inner, link)
  })
}

function reap({ links }: Inner, link: Link): void {
  if (!link.listening[0] && !link.listening[1] && link.inFlight === 0) links.delete(link.id)
}

function detach(inner: Inner, peer: PeerIndex): void {
  inner.ends.delete(peer)
  for (const link of inner.links.values()) {
    if (!link.ends.includes(peer)) continue
    const side = sideOf(link, peer)
    if (!link.listening[side]) continue
    link.listening[side] = false
    reap(inner, link)
    // The host says so when the program dies, unless the host died, too.
    if (inner.rng.integer(2) === 0) deliver(inner, { link, side: side === 0 ? 1 : 0, frame: undefined }, link.latencyMs)
  }
}

function announce(inner: Inner, { from, to }: Omit<LinkEnds, 'protocol'>, bytes: Uint8Array): void {
  inner.stats.bytes += bytes.length
  if (!reachable(inner, from, to) || fault(inner, 'loss')) return
  const delayMs = delayOf(inner, latencyOf(inner, from, to))
  const copies = fault(inner, 'duplication') ? 2 : 1
  for (let copy = 0; copy < copies; copy++)
    inner.clock.after(delayMs * (1 + copy), () => inner.ends.get(to)?.announced(from, bytes))
}
