import type { Stream } from '@libp2p/interface'
import * as lengthPrefixed from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import type { Uint8ArrayList } from 'uint8arraylist'
import type { Clock } from '../../base/clock.js'
import { describeError, PeertuneError } from '../../base/errors.js'
import { atMost, channelError, deadline, plainBytes } from '../channel.js'
import type { FrameBudget } from '../frame-budget.js'
import { CLOSE_LINGER_MS, RECEIVE_TIMEOUT_MS } from '../limits.js'
import { createOutbox, type Outbox } from './outbox.js'
import type { Channel, PeerId, ReceiveOptions } from '../transport.js'

export interface StreamChannelOptions {
  readonly maxFrameBytes: number
  readonly budget: FrameBudget
  readonly clock: Clock
  /** Called once, when neither direction is in use any more. */
  readonly onEnd?: () => void
}

/** Frames with an unsigned varint length in front (it-length-prefixed), over one libp2p stream. */
export function streamChannel(peer: PeerId, stream: Stream, options: StreamChannelOptions): Channel {
  const line = createLine(peer, stream, options)
  return {
    peer,
    send: (frame) => send(line, frame),
    receive: (receiveOptions) => receive(line, receiveOptions),
    close: () => close(line),
    abort: (reason) => {
      fail(line, channelError('gossip/channel-broken', peer, describeError(reason), reason))
    }
  }
}

/** One channel's state. */
interface Line {
  readonly peer: PeerId
  readonly stream: Stream
  readonly options: StreamChannelOptions
  readonly outbox: Outbox
  readonly frames: AsyncGenerator<Uint8ArrayList, void, unknown>
  /** Settles when the stream took the last frame. */
  readonly sent: Promise<void>
  readonly saidGoodbye: () => boolean
  status: 'open' | 'closed' | 'broken'
  failure: PeertuneError | undefined
  /** Largest frame accepted at the moment. */
  ceiling: number
  /** Bytes of the frame under way in the budget. */
  reserved: number
  receiving: boolean
  /** The frame a timed-out `receive` left behind. */
  pending: Promise<IteratorResult<Uint8ArrayList, void>> | undefined
  ended: boolean
}

function createLine(peer: PeerId, stream: Stream, options: StreamChannelOptions): Line {
  const { maxFrameBytes, budget } = options
  const outbox = createOutbox()
  // Called with a length that nobody has checked, before a byte of the frame is kept.
  const onLength = (bytes: number) => {
    if (bytes > line.ceiling) throw tooLarge(peer, bytes, line.ceiling)
    if (!budget.reserve(peer, bytes)) {
      throw channelError('gossip/frame-too-large', peer, `a frame of ${bytes} bytes while too many are under way`)
    }
    line.reserved = bytes
  }
  const line: Line = {
    peer,
    stream,
    options,
    outbox,
    frames: pipe(stream.source, (source) => lengthPrefixed.decode(source, { maxDataLength: maxFrameBytes, onLength })),
    sent: pipe(outbox, stream.sink).then(
      // The link has gone under an open channel. Nothing can be sent any more, but frames that arrived are still here.
      () => {
        if (line.status === 'open') end(line)
      },
      (error: unknown) => {
        fail(line, broken(peer, error))
      }
    ),
    saidGoodbye: watchGoodbye(stream),
    status: 'open',
    failure: undefined,
    ceiling: maxFrameBytes,
    reserved: 0,
    receiving: false,
    pending: undefined,
    ended: false
  }
  return line
}

async function send(line: Line, frame: Uint8Array): Promise<void> {
  const { maxFrameBytes } = line.options
  if (frame.length > maxFrameBytes) throw tooLarge(line.peer, frame.length, maxFrameBytes)
  if (line.status === 'broken') throw line.failure
  if (line.status === 'closed') throw channelError('gossip/channel-closed', line.peer, 'closed on this side')
  await line.outbox.push(lengthPrefixed.encode.single(frame, { maxDataLength: maxFrameBytes }))
}

async function receive(line: Line, options: ReceiveOptions = {}): Promise<Uint8Array | undefined> {
  const { maxFrameBytes, clock } = line.options
  const { timeoutMs = RECEIVE_TIMEOUT_MS, maxBytes = maxFrameBytes } = options
  if (line.receiving) {
    throw channelError('gossip/receive-overlap', line.peer, 'receive was called while another one waits')
  }
  if (line.status === 'closed') return undefined
  if (line.status === 'broken') throw line.failure
  line.ceiling = Math.min(maxBytes, maxFrameBytes)
  line.receiving = true
  try {
    line.pending ??= line.frames.next()
    // After a time-out nobody may be waiting when it fails.
    line.pending.catch(() => undefined)
    return takeFrame(line, await deadline(line.pending, { clock, ms: timeoutMs, peer: line.peer }))
  } catch (error) {
    if (isClosed(line)) return undefined
    if (error instanceof PeertuneError && error.code === 'gossip/receive-timeout') throw error
    throw fail(line, broken(line.peer, error))
  } finally {
    line.receiving = false
  }
}

function takeFrame(line: Line, result: IteratorResult<Uint8ArrayList, void>): Uint8Array | undefined {
  const { peer, options, ceiling, saidGoodbye } = line
  line.pending = undefined
  options.budget.release(peer, line.reserved)
  line.reserved = 0
  if (isClosed(line)) return undefined
  if (result.done === true) {
    if (saidGoodbye()) return undefined
    throw channelError('gossip/channel-broken', peer, 'the connection ended')
  }
  // Its length may have been read under the bound of an earlier call.
  if (result.value.byteLength > ceiling) throw tooLarge(peer, result.value.byteLength, ceiling)
  return plainBytes(result.value.subarray())
}

const isClosed = ({ status }: Line): boolean => status === 'closed'

async function close(line: Line): Promise<void> {
  if (line.status !== 'open') return
  line.status = 'closed'
  line.outbox.end()
  await atMost(CLOSE_LINGER_MS, line.sent, line.options.clock)
  void linger(line)
}

/** Waits a little for the other side's close, throwing away what still comes, and resets the stream otherwise. */
async function linger(line: Line): Promise<void> {
  const { peer, stream, options } = line
  const drain = async () => {
    for await (const _ of stream.source) if (line.ended) return
  }
  await atMost(CLOSE_LINGER_MS, drain(), options.clock)
  if (stream.status === 'open') stream.abort(channelError('gossip/channel-closed', peer, 'closed on this side'))
  end(line)
}

/** Breaks an open channel; the first reason is the one that is told. */
function fail(line: Line, error: PeertuneError): PeertuneError {
  if (line.status === 'open') {
    line.status = 'broken'
    line.failure = error
    line.stream.abort(error)
    line.outbox.fail(error)
  }
  end(line)
  return line.failure ?? error
}

function end(line: Line): void {
  line.options.budget.release(line.peer, line.reserved)
  line.reserved = 0
  if (!line.ended) line.options.onEnd?.()
  line.ended = true
}

const tooLarge = (peer: PeerId, got: number, limit: number): PeertuneError =>
  channelError('gossip/frame-too-large', peer, `a frame of ${got} bytes, at most ${limit} are accepted`)

/**
 * Whether the other side closed its half of the stream. libp2p ends the source of a stream in the same way when the
 * connection under it dies, and a crash must not look like a goodbye.
 */
function watchGoodbye(stream: Stream & { remoteCloseWrite?(): void }): () => boolean {
  let said = stream.status === 'open' && stream.readStatus !== 'ready'
  const closeWrite = stream.remoteCloseWrite?.bind(stream)
  if (closeWrite !== undefined) {
    stream.remoteCloseWrite = () => {
      said = true
      closeWrite()
    }
  }
  return () => said
}

const broken = (peer: PeerId, cause: unknown): PeertuneError => {
  if (cause instanceof PeertuneError) return cause
  const name = cause instanceof Error ? cause.name : ''
  if (name === 'InvalidDataLengthError') {
    return channelError('gossip/frame-too-large', peer, 'a frame longer than any that is accepted', cause)
  }
  return channelError('gossip/channel-broken', peer, LINK_SENTENCES[name] ?? describeError(cause), cause)
}

const LINK_SENTENCES: Readonly<Record<string, string>> = {
  UnexpectedEOFError: 'the other side stopped in the middle of a frame',
  InvalidMessageLengthError: 'the length in front of a frame is not a number',
  InvalidDataLengthLengthError: 'the length in front of a frame is not a number',
  StreamResetError: 'the other side dropped the link'
}
