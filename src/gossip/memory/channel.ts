import type { Clock } from '../../base/clock.js'
import { describeError, type PeertuneError } from '../../base/errors.js'
import { channelError, deadline } from '../channel.js'
import { MAX_QUEUED_FRAMES, RECEIVE_TIMEOUT_MS } from '../limits.js'
import type { Channel, GossipErrorCode, PeerId, ReceiveOptions } from '../transport.js'

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

/** One end with its state. */
interface LiveEnd extends End {
  readonly options: ChannelPairOptions
  readonly maxFrameBytes: number
  framesSent: number
  closed: boolean
  failure: PeertuneError | undefined
  receiving: boolean
}

function createEnd(fixed: End, options: ChannelPairOptions): Channel {
  const end: LiveEnd = {
    ...fixed,
    options,
    maxFrameBytes: options.maxFrameBytes[fixed.side],
    framesSent: 0,
    closed: false,
    failure: undefined,
    receiving: false
  }
  end.link.onBreak(() => {
    end.inbox.notify()
    wakeAll(end.outbox)
  })
  return {
    peer: end.peer,
    send: (frame) => send(end, frame),
    receive: (receiveOptions) => receive(end, receiveOptions),
    close: async () => close(end),
    abort: (reason) => {
      fail(end, 'gossip/channel-broken', describeError(reason), reason)
    }
  }
}

async function send(end: LiveEnd, frame: Uint8Array): Promise<void> {
  const { self, peer, link, outbox, options, maxFrameBytes, side } = end
  if (frame.length > maxFrameBytes) {
    throw channelError('gossip/frame-too-large', peer, `a frame of ${frame.length} bytes, at most ${maxFrameBytes}`)
  }
  if (end.closed) throw channelError('gossip/channel-closed', peer, 'closed on this side')
  if (link.broken !== undefined) throw broken(end)
  while (outbox.pending >= MAX_QUEUED_FRAMES && !outbox.discarding) {
    await new Promise<void>((resolve) => {
      outbox.waiting.push(resolve)
    })
    if (link.broken !== undefined) throw broken(end)
  }
  options.onBytes('sent', self, peer, wireBytes(frame))
  const cutAfter = options.cutAfter?.[side] ?? Number.POSITIVE_INFINITY
  if (end.framesSent++ >= cutAfter) return link.break('the link was cut')
  // A copy, as on a wire: the sender may reuse its buffer.
  travel(end, frame.slice())
}

function travel({ self, peer, link, outbox, options }: LiveEnd, item: Uint8Array | typeof END): void {
  const { clock, latencyMs, onBytes } = options
  const arrivesAt = Math.max(outbox.lastArrivalAt, clock.now() + latencyMs())
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

async function receive(end: LiveEnd, options: ReceiveOptions = {}): Promise<Uint8Array | undefined> {
  const { peer, inbox, maxFrameBytes } = end
  const { timeoutMs = RECEIVE_TIMEOUT_MS, maxBytes = maxFrameBytes } = options
  if (end.receiving) throw channelError('gossip/receive-overlap', peer, 'receive was called while another one waits')
  if (end.closed) return undefined
  if (end.failure !== undefined) throw end.failure
  end.receiving = true
  try {
    const item = await deadline(next(end), { clock: end.options.clock, ms: timeoutMs, peer })
    if (end.closed || item === END) return undefined
    if (item === undefined) throw broken(end)
    if (item.length > Math.min(maxBytes, maxFrameBytes)) {
      throw fail(end, 'gossip/frame-too-large', `a frame of ${item.length} bytes, at most ${maxBytes} are accepted`)
    }
    inbox.arrived.shift()
    inbox.pending--
    wakeAll(inbox)
    return item
  } finally {
    end.receiving = false
  }
}

/** The next item that arrived, left where it is; undefined when the link broke and nothing is left. */
async function next(end: LiveEnd): Promise<Uint8Array | typeof END | undefined> {
  const { inbox, link } = end
  while (inbox.arrived.length === 0) {
    if (link.broken !== undefined || end.closed) return undefined
    await new Promise<void>((resolve) => {
      inbox.notify = resolve
    })
  }
  return inbox.arrived[0]
}

function close(end: LiveEnd): void {
  if (end.closed || end.link.broken !== undefined) return
  end.closed = true
  travel(end, END)
  end.inbox.notify()
  end.inbox.discarding = true
  wakeAll(end.inbox)
  end.onFinish()
}

const broken = ({ failure, peer, link }: LiveEnd): PeertuneError =>
  failure ?? channelError('gossip/channel-broken', peer, link.broken ?? 'the link is gone')

function fail(end: LiveEnd, code: GossipErrorCode, detail: string, cause?: unknown): PeertuneError {
  const error = channelError(code, end.peer, detail, cause)
  if (end.failure === undefined && !end.closed) end.failure = error
  end.link.break('the other side dropped the link')
  return end.failure ?? error
}

/** Bytes of a frame with its unsigned varint length in front, as the libp2p transport frames it. */
function wireBytes(frame: Uint8Array): number {
  let prefix = 1
  for (let rest = frame.length; rest >= 128; rest = Math.floor(rest / 128)) prefix++
  return prefix + frame.length
}
