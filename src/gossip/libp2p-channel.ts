import type { Stream } from '@libp2p/interface'
import * as lengthPrefixed from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import type { Uint8ArrayList } from 'uint8arraylist'
import type { Clock } from '../base/clock.js'
import { describeError, PeertuneError } from '../base/errors.js'
import { atMost, channelError, deadline, plainBytes } from './channel.js'
import type { FrameBudget } from './frame-budget.js'
import { CLOSE_LINGER_MS, RECEIVE_TIMEOUT_MS } from './limits.js'
import type { Channel, PeerId } from './transport.js'

export interface StreamChannelOptions {
  readonly maxFrameBytes: number
  readonly budget: FrameBudget
  readonly clock: Clock
  /** Called once, when neither direction is in use any more. */
  readonly onEnd?: () => void
}

/** Frames with an unsigned varint length in front (it-length-prefixed), over one libp2p stream. */
export function streamChannel(peer: PeerId, stream: Stream, options: StreamChannelOptions): Channel {
  const { maxFrameBytes, budget, clock } = options
  const outbox = createOutbox()
  let state = 'open' as 'open' | 'closed' | 'broken'
  const isClosed = () => state === 'closed'
  let failure: PeertuneError | undefined
  let ceiling = maxFrameBytes
  let reserved = 0
  let receiving = false
  let pending: Promise<IteratorResult<Uint8ArrayList, void>> | undefined
  let ended = false
  const saidGoodbye = watchGoodbye(stream)

  const end = () => {
    budget.release(peer, reserved)
    reserved = 0
    if (!ended) options.onEnd?.()
    ended = true
  }
  const fail = (error: PeertuneError): PeertuneError => {
    if (state === 'open') {
      state = 'broken'
      failure = error
      stream.abort(error)
      outbox.fail(error)
    }
    end()
    return failure ?? error
  }

  // Called with a length that nobody has checked, before a byte of the frame is kept.
  const onLength = (bytes: number) => {
    if (bytes > ceiling) {
      throw channelError('gossip/frame-too-large', peer, `a frame of ${bytes} bytes, at most ${ceiling} are accepted`)
    }
    if (!budget.reserve(peer, bytes)) {
      throw channelError('gossip/frame-too-large', peer, `a frame of ${bytes} bytes while too many are under way`)
    }
    reserved = bytes
  }
  const frames = pipe(stream.source, (source) =>
    lengthPrefixed.decode(source, { maxDataLength: maxFrameBytes, onLength })
  )
  const sent = pipe(outbox, stream.sink).catch((error: unknown) => {
    fail(broken(peer, error))
  })

  /** Waits a little for the other side's close, throwing away what still comes, and resets the stream otherwise. */
  const linger = async () => {
    const drain = async () => {
      for await (const _ of stream.source) if (ended) return
    }
    await atMost(CLOSE_LINGER_MS, drain(), clock)
    if (stream.status === 'open') stream.abort(channelError('gossip/channel-closed', peer, 'closed on this side'))
    end()
  }

  return {
    peer,
    send: async (frame) => {
      if (frame.length > maxFrameBytes) {
        throw channelError('gossip/frame-too-large', peer, `a frame of ${frame.length} bytes, at most ${maxFrameBytes}`)
      }
      if (state === 'broken') throw failure
      if (state === 'closed') throw channelError('gossip/channel-closed', peer, 'closed on this side')
      await outbox.push(lengthPrefixed.encode.single(frame, { maxDataLength: maxFrameBytes }))
    },
    receive: async ({ timeoutMs = RECEIVE_TIMEOUT_MS, maxBytes = maxFrameBytes } = {}) => {
      if (receiving) throw channelError('gossip/receive-overlap', peer, 'receive was called while another one waits')
      if (state === 'closed') return undefined
      if (state === 'broken') throw failure
      ceiling = Math.min(maxBytes, maxFrameBytes)
      receiving = true
      try {
        pending ??= frames.next()
        // After a time-out nobody may be waiting when it fails.
        pending.catch(() => undefined)
        const result = await deadline(pending, { clock, ms: timeoutMs, peer })
        pending = undefined
        budget.release(peer, reserved)
        reserved = 0
        if (isClosed()) return undefined
        if (result.done !== true) return plainBytes(result.value.subarray())
        if (saidGoodbye()) return undefined
        throw channelError('gossip/channel-broken', peer, 'the connection ended')
      } catch (error) {
        if (isClosed()) return undefined
        if (error instanceof PeertuneError && error.code === 'gossip/receive-timeout') throw error
        throw fail(broken(peer, error))
      } finally {
        receiving = false
      }
    },
    close: async () => {
      if (state !== 'open') return
      state = 'closed'
      outbox.end()
      await atMost(CLOSE_LINGER_MS, sent, clock)
      void linger()
    },
    abort: (reason) => {
      fail(channelError('gossip/channel-broken', peer, describeError(reason), reason))
    }
  }
}

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

interface Outbox extends AsyncIterableIterator<Uint8ArrayList> {
  /** Resolves when the stream took the whole frame and asks for the next. */
  push(frame: Uint8ArrayList): Promise<void>
  end(): void
  fail(error: Error): void
}

/**
 * What `send` hands to the stream's sink: one frame at a time, so that a slow link slows the sender. A plain iterator,
 * because `return()` of a generator would wait for its pending `next()` and the sink of a reset stream never end.
 */
function createOutbox(): Outbox {
  interface Parcel {
    readonly frame: Uint8ArrayList
    readonly resolve: () => void
    readonly reject: (error: Error) => void
  }
  const queue: Parcel[] = []
  let underWay: Parcel | undefined
  let wake: ((result: IteratorResult<Uint8ArrayList>) => void) | undefined
  let ended = false
  let failure: Error | undefined

  const take = (): IteratorResult<Uint8ArrayList> | undefined => {
    underWay = queue.shift()
    if (underWay !== undefined) return { done: false, value: underWay.frame }
    return ended ? { done: true, value: undefined } : undefined
  }
  const hand = () => {
    if (wake === undefined) return
    const next = take()
    if (next === undefined) return
    wake(next)
    wake = undefined
  }
  const fail = (error: Error) => {
    failure ??= error
    ended = true
    for (const parcel of [...(underWay === undefined ? [] : [underWay]), ...queue.splice(0)]) parcel.reject(failure)
    underWay = undefined
    hand()
  }

  const outbox: Outbox = {
    [Symbol.asyncIterator]: () => outbox,
    next: () => {
      underWay?.resolve()
      const next = take()
      if (next !== undefined) return Promise.resolve(next)
      return new Promise((resolve) => {
        wake = resolve
      })
    },
    return: () => {
      fail(new PeertuneError('gossip/channel-broken', 'The link is gone'))
      return Promise.resolve({ done: true, value: undefined })
    },
    push: (frame) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure)
        queue.push({ frame, resolve, reject })
        hand()
      }),
    end: () => {
      ended = true
      hand()
    },
    fail
  }
  return outbox
}
