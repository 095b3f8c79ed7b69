import type { Clock } from '../../base/clock.js'
import { type Logger, silentLogger } from '../../base/log.js'
import { type Rng, seededRng } from '../../base/rng.js'
import { MAX_FRAME_BYTES } from '../limits.js'
import { createMemoryTransport } from './transport.js'
import type { MemoryJoin, MemoryPeer, MemoryWorld } from './world.js'
import type { PeerId, Transport } from '../transport.js'

/** What goes wrong by itself, drawn from the network's seed. */
export interface MemoryFaults {
  /** Milliseconds a frame or one hop of an announcement takes, drawn uniformly between the two. */
  readonly latencyMs?: readonly [number, number]
  /** Probability that one hop of an announcement is lost. */
  readonly announcementLoss?: number
  /** Probability that one hop of an announcement arrives twice and is taken for new. */
  readonly announcementDuplication?: number
  /** Probability that a channel breaks, at a frame drawn from the first `withinFrames` of one direction. */
  readonly channelCut?: { readonly probability: number; readonly withinFrames: number }
}

/** A planned break of channels that `from` and `to` share, whoever opens them. */
export interface ChannelCut {
  readonly from: PeerId
  readonly to: PeerId
  /** Any protocol when absent. */
  readonly protocol?: string
  /** Frames from `from` to `to` that still arrive; the next is lost, and both ends see the link break. */
  readonly afterFrames: number
  /** Channels this happens to; 1 by default. */
  readonly times?: number
}

export interface MemoryNetwork {
  join(options: MemoryJoin): Transport
  /** Replaces the random faults, for what happens from now on. */
  setFaults(faults: MemoryFaults): void
  cut(plan: ChannelCut): void
  /** `peer` answers no new connections, or does so again. */
  refuse(peer: PeerId, refused?: boolean): void
  /** Only peers of one group reach each other; connections across break. A peer in no group reaches nobody. */
  partition(groups: readonly (readonly PeerId[])[]): void
  heal(): void
  /** Connects every running peer with every other. */
  connectAll(): Promise<void>
  /** Rejected announcements `peer` passed on, its own included. */
  rejectedFrom(peer: PeerId): number
}

export interface MemoryNetworkOptions {
  readonly seed: string
  readonly clock: Clock
  readonly log?: Logger
  readonly faults?: MemoryFaults
}

/**
 * A network in one process: the same promises as over libp2p, with faults on purpose. With the same seed, the same
 * calls and a clock that orders its sleepers, everything happens in the same order again.
 */
export function createMemoryNetwork(options: MemoryNetworkOptions): MemoryNetwork {
  const { clock, log = silentLogger } = options
  const rng = seededRng(options.seed, 'memory-network')
  const peers = new Map<PeerId, MemoryPeer>()
  const refused = new Set<PeerId>()
  const plans: { plan: ChannelCut; left: number }[] = []
  const rejections = new Map<PeerId, number>()
  let faults = options.faults ?? {}
  let groups: readonly (readonly PeerId[])[] | undefined

  const reachable = (a: PeerId, b: PeerId) =>
    groups === undefined || groups.some((group) => group.includes(a) && group.includes(b))
  const world: MemoryWorld = {
    clock,
    log,
    find: (name) => peers.get(name),
    reachable,
    refuses: (peer) => refused.has(peer),
    latencyMs: () => between(rng, faults.latencyMs),
    arrivals: () => drawArrivals(rng, faults),
    cutAfter: (opener, answerer, protocol) =>
      planned(plans, opener, answerer, protocol) ?? drawCut(rng, faults.channelCut),
    rejected: (peer) => rejections.set(peer, (rejections.get(peer) ?? 0) + 1)
  }

  return {
    join: ({ name, maxFrameBytes = MAX_FRAME_BYTES, ...rest }) => {
      const peer = createMemoryTransport(world, { name, maxFrameBytes, ...rest })
      peers.set(name, peer)
      return peer.transport
    },
    setFaults: (next) => {
      faults = next
    },
    cut: (plan) => {
      plans.push({ plan, left: plan.times ?? 1 })
    },
    refuse: (peer, isRefused = true) => {
      if (isRefused) refused.add(peer)
      else refused.delete(peer)
    },
    partition: (next) => {
      groups = next.map((group) => [...group])
      for (const peer of peers.values()) peer.dropUnreachable()
    },
    heal: () => {
      groups = undefined
    },
    connectAll: async () => {
      const running = [...peers.values()].filter(({ isRunning }) => isRunning())
      for (const [index, peer] of running.entries()) {
        for (const other of running.slice(index + 1)) {
          await peer.transport.connect(other.transport.addresses()[0] ?? '')
        }
      }
    },
    rejectedFrom: (peer) => rejections.get(peer) ?? 0
  }
}

function between(rng: Rng, range: readonly [number, number] | undefined): number {
  // Nothing is drawn where nothing varies: a test that adds latency does not change the other draws.
  return range === undefined ? 0 : range[0] + (range[1] - range[0]) * rng.uniform()
}

function drawArrivals(rng: Rng, { announcementLoss = 0, announcementDuplication = 0 }: MemoryFaults): 0 | 1 | 2 {
  if (announcementLoss === 0 && announcementDuplication === 0) return 1
  const draw = rng.uniform()
  if (draw < announcementLoss) return 0
  return draw < announcementLoss + announcementDuplication ? 2 : 1
}

function drawCut(rng: Rng, cut: MemoryFaults['channelCut']): readonly [number, number] | undefined {
  if (cut === undefined || rng.uniform() >= cut.probability) return undefined
  const frames = rng.integer(cut.withinFrames)
  return rng.integer(2) === 0 ? [frames, Number.POSITIVE_INFINITY] : [Number.POSITIVE_INFINITY, frames]
}

function planned(
  plans: { plan: ChannelCut; left: number }[],
  opener: PeerId,
  answerer: PeerId,
  protocol: string
): readonly [number, number] | undefined {
  const found = plans.find(
    ({ plan, left }) =>
      left > 0 &&
      (plan.protocol === undefined || plan.protocol === protocol) &&
      ((plan.from === opener && plan.to === answerer) || (plan.from === answerer && plan.to === opener))
  )
  if (found === undefined) return undefined
  found.left--
  const { from, afterFrames } = found.plan
  return from === opener ? [afterFrames, Number.POSITIVE_INFINITY] : [Number.POSITIVE_INFINITY, afterFrames]
}
