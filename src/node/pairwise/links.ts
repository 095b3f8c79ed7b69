import type { Clock } from '../../base/clock.js'
import type { Verdict } from '../../base/verdict.js'
import { ignore, reject } from '../../base/verdict.js'
import type { PayloadBound } from '../../codec/wire/payload.js'
import type { ExchangeVerdictCode, LinkId, Parcel } from '../../consensus/exchange/types.js'
import type { Channel, PeerId } from '../../gossip/transport.js'
import { readMessage, writeMessage } from './channel.js'

/** Messages on one channel: RESOLVE, RESOLUTION, HELLO and COMMIT are what an honest peer sends, some twice. */
export const MAX_MESSAGES_PER_CHANNEL = 16

/** Channels at work at once; only one carries an exchange, the others settle doubts or are told that we are busy. */
const MAX_OPEN_CHANNELS = 64

/** Bytes per second below which a conversation is given up although every frame came in time. */
const SLOWEST_BYTES_PER_SECOND = 16 * 1024

/** Milliseconds a conversation may take besides its two payloads. */
const CONVERSATION_MS = 60_000

/** Done, or done when the promise resolves. */
export type MaybeLater = Promise<void> | undefined

/** One channel at work. */
export interface Link {
  readonly id: LinkId
  readonly channel: Channel
  /** Sends in order; never rejects. */
  outbox: Promise<void>
  /** We have said all we will say; what still arrives is dropped. */
  closing: boolean
}

export interface LinksInit {
  readonly clock: Clock
  /** What the agreed codec needs for the agreed schema. */
  readonly payload: PayloadBound
  readonly frameTimeoutMs: number
  readonly onBytesSent: (count: number) => void
  /** A verdict on either ends the conversation: the peer has used up its budget. */
  readonly onBytesReceived: (peer: PeerId, count: number) => Verdict<ExchangeVerdictCode> | undefined
  readonly onMessageReceived: (peer: PeerId) => Verdict<ExchangeVerdictCode> | undefined
  /**
   * These three may fail for our own bugs; the conversation then ends and `begin`'s promise rejects. Nothing more is read from
   * a link before its last message has been dealt with.
   */
  readonly onMessage: (link: Link, parcel: Parcel) => MaybeLater
  readonly onUnreadable: (link: Link, verdict: Verdict<ExchangeVerdictCode>) => MaybeLater
  /** Last word on a link, whatever happened to it. */
  readonly onEnd: (link: Link) => MaybeLater
}

/** The channels of the exchange protocol: frames in order, time-outs and bounds; what is said is not its business. */
export interface Links {
  full(): boolean
  /** Reads a channel until it ends; `ended` rejects only for our own bugs. */
  begin(channel: Channel): { readonly link: Link; readonly ended: Promise<void> }
  /** Not before `after` has resolved, and not at all if it rejects. */
  send(id: LinkId, parcel: Parcel, after?: Promise<void>): void
  /** Closes after everything sent before. */
  close(id: LinkId): void
  /** Breaks every link and waits for the conversations to end. */
  abortAll(reason: Error): Promise<void>
}

export function createLinks(init: LinksInit): Links {
  const links = new Map<LinkId, Link>()
  const conversations = new Set<Promise<void>>()
  let nextLink: LinkId = 1

  return {
    full: () => links.size >= MAX_OPEN_CHANNELS,

    begin(channel) {
      const link: Link = { id: nextLink++, channel, outbox: Promise.resolve(), closing: false }
      links.set(link.id, link)
      const ended = converse(init, link, () => links.delete(link.id))
      const settled: Promise<void> = ended
        .catch(() => undefined)
        .finally(() => {
          conversations.delete(settled)
        })
      conversations.add(settled)
      return { link, ended }
    },

    send(id, parcel, after) {
      const link = links.get(id)
      if (link === undefined || link.closing) return
      link.outbox = link.outbox
        .then(() => after)
        .then(() => writeMessage(link.channel, parcel, init.onBytesSent))
        // The reading end of a broken link reports it; here it only means that nobody is listening.
        .catch(() => undefined)
    },

    close(id) {
      const link = links.get(id)
      if (link === undefined || link.closing) return
      link.closing = true
      link.outbox = link.outbox.then(() => link.channel.close()).catch(() => undefined)
    },

    async abortAll(reason) {
      for (const link of links.values()) link.channel.abort(reason)
      await Promise.all(conversations)
    }
  }
}

function giveUp(init: LinksInit, link: Link, verdict: Verdict<ExchangeVerdictCode>): MaybeLater {
  // Before anything else: a link that is given up must end even if what follows fails.
  link.channel.abort(new Error(verdict.verdict === 'accept' ? 'unreadable' : verdict.code))
  return init.onUnreadable(link, verdict)
}

/** Reads until the channel ends. Rejects only for our own bugs. */
async function read(init: LinksInit, link: Link): Promise<void> {
  const { payload, frameTimeoutMs: timeoutMs } = init
  const { peer } = link.channel
  const onBytes = (count: number) => init.onBytesReceived(peer, count)
  for (let messages = 0; ; messages++) {
    const incoming = await readMessage(link.channel, { payload, timeoutMs, onBytes })
    if (link.closing || incoming.kind === 'end') return
    if (incoming.kind === 'unreadable') return await giveUp(init, link, incoming.verdict)
    if (messages >= MAX_MESSAGES_PER_CHANNEL) return await giveUp(init, link, reject('exchange/too-many-messages'))
    const verdict = init.onMessageReceived(peer)
    if (verdict !== undefined) return await giveUp(init, link, verdict)
    const later = init.onMessage(link, incoming)
    if (later !== undefined) await later
  }
}

/** A conversation from its first frame to its end, within its time. */
async function converse(init: LinksInit, link: Link, forget: () => void): Promise<void> {
  const deadlineMs = CONVERSATION_MS + (2 * init.payload.bytes * 1000) / SLOWEST_BYTES_PER_SECOND
  const done = new AbortController()
  const late = init.clock.sleep(deadlineMs, done.signal).then(
    () => giveUp(init, link, ignore('exchange/timeout', `a conversation of more than ${deadlineMs} ms`)),
    () => undefined
  )
  try {
    await read(init, link)
    await link.outbox
  } catch (error) {
    link.channel.abort(new Error('an error of ours'))
    throw error
  } finally {
    done.abort()
    await late
    forget()
    await init.onEnd(link)
  }
}
