import type { Clock } from '../base/clock.js'
import { describeError, type PeertuneError } from '../base/errors.js'
import { channelError, deadline } from './channel.js'
import { MAX_QUEUED_FRAMES, RECEIVE_TIMEOUT_MS } from './limits.js'
import type { Channel, GossipErrorCode, PeerId } from './transport.js'

export interface ChannelPairOptions {
  /** Who opens, and who answers. */
  readonly ends: readonly [PeerId, PeerId]
  /** Of each end. */
  readonly maxFrameBytes: readonly [number, number]
  readonly clock: Clock
  /** Milliseconds the next frame takes. */
  latencyMs(): number
  /** Frames that get through from each end before the link breaks; the next one is lost, though its `send` resolves. */
  readonly cutAfter?: readonly [number, number]
  /** Told about every frame that left or arrived at an end, with its bytes on the wire. */
  onBytes(direction: 'sent' | 'received', at: PeerId, other: PeerId, bytes: number): void
  /** Called once, when both ends have finished with the link. */
  onEnd(): void
}

export interface ChannelPair {
  readonly opener: Channel
  readonly answerer: Channel
  /** The link breaks under both ends; frames that had arrived can still be received. */
  break(reason: string): void
}

const END = Symbol('end of the conversation')

/** What one end has been sent and not yet received. */
interface Inbox {
  readonly arrived: (Uint8Array | typeof END)[]
  /** Frames on their way or arrived. */
  pending: number
  /** When the last one sent arrives: frames never overtake each other. */
  lastArrivalAt: number
  /** The owner has closed: what still comes is thrown away, so that the other side is never stuck in a send. */
  discarding: boolean
  notify: () => void
  /** Senders waiting for room. */
  readonly waiting: (() => void)[]
}

const wakeAll = ({ waiting }: Inbox) => {
  for (const wake of waiting.splice(0)) wake()
}

/** Two ends of one conversation in the same process, with latency, backpressure and a breaking point. */
export function createChannelPair(options: ChannelPairOptions): ChannelPair {
  const link = createLink(options)
  const [opener, answerer] = options.ends
  const inboxes = [createInbox(), createInbox()] as const
  let finished = 0
  const onFinish = () => {
    finished++
    if (finished === 2) link.end()
  }
  return {
    opener: createEnd(
      { self: opener, peer: answerer, inbox: inboxes[0], outbox: inboxes[1], side: 0, link, onFinish },
      options
    ),
    answerer: createEnd(
      { self: answerer, peer: opener, inbox: inboxes[1], outbox: inboxes[0], side: 1, link, onFinish },
      options
    ),
    break: (reason) => link.break(reason)
  }
}

const createInbox = (): Inbox => ({
  arrived: [],
  pending: 0,
  lastArrivalAt: 0,
  discarding: false,
  notify: () => undefined,
  waiting: []
})

interface Link {
  broken: string | undefined
  break(reason: string): void
  /** Both ends have said goodbye. */
  end(): void
  onBreak(listener: () => void): void
}

function createLink(options: ChannelPairOptions): Link {
  const listeners: (() => void)[] = []
  let ended = false
  const link: Link = {
    broken: undefined,
    break: (reason) => {
      if (link.broken !== undefined) return
      link.broken = reason
      for (const listener of listeners) listener()
      link.end()
    },
    end: () => {
      if (!ended) options.onEnd()
      ended = true
    },
    onBreak: (listener) => listeners.push(listener)
  }
  return link
}

interface End {
  readonly self: PeerId
  readonly peer: PeerId
  readonly inbox: Inbox
  readonly outbox: Inbox
  readonly side: 0 | 1
  readonly link: Link
  onFinish(): void
}

function createEnd(end: End, options: ChannelPairOptions): Channel {
  const { self, peer, inbox, outbox, side, link } = end
  const { clock, onBytes } = options
  const maxFrameBytes = options.maxFrameBytes[side]
  const cutAfter = options.cutAfter?.[side] ?? Number.POSITIVE_INFINITY
  let framesSent = 0
  let closed = false
  let failure: PeertuneError | undefined
  let receiving = false
  link.onBreak(() => {
    inbox.notify()
    wakeAll(outbox)
  })

  const broken = () => failure ?? channelError('gossip/channel-broken', peer, link.broken ?? 'the link is gone')
  const fail = (code: GossipErrorCode, detail: string, cause?: unknown): PeertuneError => {
    const error = channelError(code, peer, detail, cause)
    if (failure === undefined && !closed) failure = error
    link.break('the other side dropped the link')
    return failure ?? error
  }
  const travel = (item: Uint8Array | typeof END) => {
    const arrivesAt = Math.max(outbox.lastArrivalAt, clock.now() + options.latencyMs())
    outbox.lastArrivalAt = arrivesAt
    outbox.pending++
    const arrive = () => {
      if (link.broken !== undefined) return
      if (item === END || !outbox.discarding) outbox.arrived.push(item)
      if (item !== END) onBytes('received', peer, self, wireBytes(item))
      outbox.notify()
    }
    if (arrivesAt <= clock.now()) arrive()
    else void clock.sleep(arrivesAt - clock.now()).then(arrive)
  }
  /** The next item that arrived, or undefined when the link broke and nothing is left. */
  const next = async (): Promise<Uint8Array | typeof END | undefined> => {
    while (inbox.arrived.length === 0) {
      if (link.broken !== undefined || closed) return undefined
      await new Promise<void>((resolve) => {
        inbox.notify = resolve
      })
    }
    return inbox.arrived[0]
  }

  return {
    peer,
    send: async (frame) => {
      if (frame.length > maxFrameBytes) {
        throw channelError('gossip/frame-too-large', peer, `a frame of ${frame.length} bytes, at most ${maxFrameBytes}`)
      }
      if (closed) throw channelError('gossip/channel-closed', peer, 'closed on this side')
      if (link.broken !== undefined) throw broken()
      while (outbox.pending >= MAX_QUEUED_FRAMES && !outbox.discarding) {
        await new Promise<void>((resolve) => {
          outbox.waiting.push(resolve)
        })
        if (link.broken !== undefined) throw broken()
      }
      onBytes('sent', self, peer, wireBytes(frame))
      if (framesSent++ >= cutAfter) return link.break('the link was cut')
      // A copy, as on a wire: the sender may reuse its buffer.
      travel(frame.slice())
    },
    receive: async ({ timeoutMs = RECEIVE_TIMEOUT_MS, maxBytes = maxFrameBytes } = {}) => {
      if (receiving) throw channelError('gossip/receive-overlap', peer, 'receive was called while another one waits')
      if (closed) return undefined
      if (failure !== undefined) throw failure
      receiving = true
      try {
        const item = await deadline(next(), { clock, ms: timeoutMs, peer })
        if (closed || item === END) return undefined
        if (item === undefined) throw broken()
        if (item.length > Math.min(maxBytes, maxFrameBytes)) {
          throw fail('gossip/frame-too-large', `a frame of ${item.length} bytes, at most ${maxBytes} are accepted`)
        }
        inbox.arrived.shift()
        inbox.pending--
        wakeAll(inbox)
        return item
      } finally {
        receiving = false
      }
    },
    close: async () => {
      if (closed || link.broken !== undefined) return
      closed = true
      travel(END)
      inbox.notify()
      inbox.discarding = true
      wakeAll(inbox)
      end.onFinish()
    },
    abort: (reason) => {
      fail('gossip/channel-broken', describeError(reason), reason)
    }
  }
}

/** Bytes of a frame with its unsigned varint length in front, as the libp2p transport frames it. */
export function wireBytes(frame: Uint8Array): number {
  let prefix = 1
  for (let rest = frame.length; rest >= 128; rest = Math.floor(rest / 128)) prefix++
  return prefix + frame.length
}
