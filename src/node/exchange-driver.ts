import { silentLogger } from '../base/log.js'
import { isPeertuneError } from '../base/errors.js'
import type { Verdict } from '../base/verdict.js'
import { ignore, reject } from '../base/verdict.js'
import type { RefusalCode } from '../codec/messages.js'
import { initialExchangeState, stepExchange } from '../consensus/exchange.js'
import type {
  ExchangeEffect,
  ExchangeEvent,
  ExchangeOutcome,
  ExchangeVerdictCode,
  LinkId
} from '../consensus/exchange-types.js'
import { journalDocument } from '../consensus/journal.js'
import { EXCHANGE_PROTOCOL } from '../gossip/topics.js'
import type { Channel, PeerId } from '../gossip/transport.js'
import type { Incoming } from './exchange-channel.js'
import { readMessage, writeMessage } from './exchange-channel.js'
import type {
  AttemptOutcome,
  CommittedExchange,
  ExchangeDriver,
  ExchangeDriverComponents,
  ExchangeDriverInit
} from './exchange-types.js'
import { createTallies } from './exchange-tallies.js'
import { rateLimit } from './rate-limit.js'

/** Milliseconds for one frame: a 256 KiB chunk then needs 9 KiB/s. */
export const FRAME_TIMEOUT_MS = 30_000

/** Bytes per second below which a conversation is given up although every frame came in time. */
export const SLOWEST_BYTES_PER_SECOND = 16 * 1024

/** Milliseconds a conversation may take besides its payloads. */
export const CONVERSATION_MS = 60_000

/** Messages on one channel: RESOLVE, RESOLUTION, HELLO and COMMIT are what an honest peer sends, some twice. */
export const MAX_MESSAGES_PER_CHANNEL = 16

/** Channels at work at once; only one carries an exchange, the others settle doubts or are told that we are busy. */
export const MAX_OPEN_CHANNELS = 64

/** Each HELLO costs us the coding of our parameters: 20 at once, then 4 a second, cover a settling network. */
export const HELLO_BURST = 20
export const HELLOS_PER_SECOND = 4

/** Peers whose last exchange and rate are remembered. */
export const MAX_REMEMBERED_PARTNERS = 1024

/** Milliseconds `stop` waits for an exchange under way. */
export const STOP_GRACE_MS = 2_000

interface Link {
  readonly id: LinkId
  readonly channel: Channel
  /** Sends in order; never rejects. */
  outbox: Promise<void>
  /** We have said all we will say; what still arrives is dropped. */
  closing: boolean
}

/**
 * Runs the exchange machine over channels: one reading loop per channel turns frames into events, and effects into
 * frames. All decisions are the machine's; this file owns order, time-outs and counting. A state and its `apply` effects
 * take place in one tick, so a checkpoint between two ticks sees both or neither.
 */
export function createExchangeDriver(components: ExchangeDriverComponents, init: ExchangeDriverInit): ExchangeDriver {
  const { transport, clock, holder, phase, logger = silentLogger, onCommitted, onVerdict } = components
  const { config, frameTimeoutMs = FRAME_TIMEOUT_MS, helloBurst = HELLO_BURST } = init
  const payloadBytes = config.codec.encodedBytes(config.schema.size)
  const deadlineMs = CONVERSATION_MS + (2 * payloadBytes * 1000) / SLOWEST_BYTES_PER_SECOND
  const maySayHello = rateLimit(clock, {
    burst: helloBurst,
    perSecond: init.hellosPerSecond ?? HELLOS_PER_SECOND,
    maxKeys: MAX_REMEMBERED_PARTNERS
  })

  let state = initialExchangeState(init.journal)
  let nextLink: LinkId = 1
  let stopping: Promise<void> | undefined
  const links = new Map<LinkId, Link>()
  const conversations = new Set<Promise<void>>()
  const waiting = new Map<LinkId, (outcome: ExchangeOutcome) => void>()
  const idleListeners = new Set<() => void>()
  const partners = new Map<PeerId, CommittedExchange>()
  const tallies = createTallies()

  function dispatch(event: ExchangeEvent): void {
    const [next, effects] = stepExchange(config, state, event, { parameters: holder.parameters(), phase: phase() })
    state = next
    for (const effect of effects) perform(effect)
    if (state.active === undefined) for (const listener of idleListeners) listener()
  }

  function perform(effect: ExchangeEffect): void {
    switch (effect.type) {
      case 'send':
        if (effect.message.type === 'refuse') tallies.refusedByUs(effect.message.code)
        return post(effect)
      case 'close':
        return close(links.get(effect.link))
      case 'apply':
        holder.add(effect.increment)
        return committed(effect)
      case 'undone':
        return logger.debug({ peer: effect.peer }, 'an exchange in doubt had not happened')
      case 'forgotten':
        tallies.forgotten()
        return logger.warn({ peer: effect.peer }, 'gave up settling an exchange: its partner has not come back')
      case 'penalise':
        return judged(effect.peer, effect.verdict)
      case 'finished':
        if (effect.outcome.kind === 'refused') tallies.refusedByOthers(effect.outcome.code)
        waiting.get(effect.link)?.(effect.outcome)
        waiting.delete(effect.link)
        return
    }
  }

  function committed({ peer, role, partnerPhase }: ExchangeEffect & { readonly type: 'apply' }): void {
    const exchange: CommittedExchange = { peer, role, partnerPhase, atMs: clock.now() }
    tallies.committed()
    partners.delete(peer)
    partners.set(peer, exchange)
    if (partners.size > MAX_REMEMBERED_PARTNERS) partners.delete(partners.keys().next().value as PeerId)
    onCommitted?.(exchange)
  }

  function judged(peer: PeerId, verdict: Verdict<ExchangeVerdictCode>): void {
    if (verdict.verdict === 'accept') return
    tallies.verdict(verdict.code)
    const level = verdict.verdict === 'reject' ? 'warn' : 'debug'
    logger[level]({ peer, code: verdict.code, detail: verdict.detail }, 'judged what a peer sent in an exchange')
    onVerdict?.(peer, verdict)
  }

  function post({ link: id, message, payload }: ExchangeEffect & { readonly type: 'send' }): void {
    const link = links.get(id)
    if (link === undefined || link.closing) return
    link.outbox = link.outbox
      .then(() => writeMessage(link.channel, message, payload, tallies.sent))
      // The reading end of a broken link reports it; here it only means that nobody is listening.
      .catch(() => undefined)
  }

  function close(link: Link | undefined): void {
    if (link === undefined || link.closing) return
    link.closing = true
    link.outbox = link.outbox.then(() => link.channel.close()).catch(() => undefined)
  }

  /** The driver's own refusal of a HELLO, before the machine hears of it. */
  function turnAway(link: Link, { exchangeId }: { readonly exchangeId: string }, code: RefusalCode): void {
    tallies.refusedByUs(code)
    post({ type: 'send', link: link.id, message: { type: 'refuse', exchangeId, code } })
    close(link)
  }

  function receive(link: Link, incoming: Incoming & { readonly kind: 'message' }): void {
    const { message, payload } = incoming
    const { peer } = link.channel
    if (message.type === 'hello' && stopping !== undefined) return turnAway(link, message, 'leaving')
    if (message.type === 'hello' && !maySayHello(peer)) {
      judged(peer, ignore('exchange/rate-limited'))
      return turnAway(link, message, 'rate-limited')
    }
    dispatch({ type: 'message', link: link.id, peer, message, ...(payload === undefined ? {} : { payload }) })
  }

  function unreadable(link: Link, verdict: Verdict<ExchangeVerdictCode>): void {
    dispatch({ type: 'unreadable', link: link.id, peer: link.channel.peer, verdict })
    link.channel.abort(new Error(verdict.verdict === 'accept' ? 'unreadable' : verdict.code))
  }

  /** Reads until the channel ends. Rejects only for our own bugs. */
  async function read(link: Link): Promise<void> {
    const options = { payloadBytes, timeoutMs: frameTimeoutMs, onBytes: tallies.received }
    for (let messages = 0; ; messages++) {
      const incoming = await readMessage(link.channel, options)
      if (link.closing || incoming.kind === 'end') return
      if (incoming.kind === 'unreadable') return unreadable(link, incoming.verdict)
      if (messages >= MAX_MESSAGES_PER_CHANNEL) return unreadable(link, reject('exchange/too-many-messages'))
      receive(link, incoming)
    }
  }

  /** A conversation from its first frame to its end, within its time. */
  async function converse(link: Link): Promise<void> {
    const done = new AbortController()
    const late = clock.sleep(deadlineMs, done.signal).then(
      () => unreadable(link, ignore('exchange/timeout', `a conversation of more than ${deadlineMs} ms`)),
      () => undefined
    )
    try {
      await read(link)
      await link.outbox
    } finally {
      done.abort()
      await late
      links.delete(link.id)
      dispatch({ type: 'broken', link: link.id, peer: link.channel.peer })
    }
  }

  function begin(channel: Channel): { readonly link: Link; readonly ended: Promise<void> } {
    const link: Link = { id: nextLink++, channel, outbox: Promise.resolve(), closing: false }
    links.set(link.id, link)
    const ended = converse(link)
    const settled = ended.catch(() => undefined).finally(() => conversations.delete(settled))
    conversations.add(settled)
    return { link, ended }
  }

  async function answer(channel: Channel): Promise<void> {
    if (links.size >= MAX_OPEN_CHANNELS) return channel.close()
    await begin(channel).ended
  }

  async function open(peer: PeerId): Promise<Channel | { readonly kind: 'unreachable'; readonly code: string }> {
    const done = new AbortController()
    const giveUp = new AbortController()
    const late = clock.sleep(frameTimeoutMs, done.signal).then(
      () => giveUp.abort(),
      () => undefined
    )
    try {
      return await transport.open(peer, EXCHANGE_PROTOCOL, giveUp.signal)
    } catch (error) {
      return { kind: 'unreachable', code: isPeertuneError(error) ? error.code : 'gossip/open-failed' }
    } finally {
      done.abort()
      await late
    }
  }

  async function exchangeWith(peer: PeerId): Promise<AttemptOutcome> {
    if (state.active !== undefined || links.size >= MAX_OPEN_CHANNELS) return { kind: 'refused', code: 'busy' }
    if (stopping !== undefined) return { kind: 'refused', code: 'leaving' }
    const channel = await open(peer)
    if ('kind' in channel) return channel
    const { link, ended } = begin(channel)
    const outcome = new Promise<ExchangeOutcome>((resolve) => waiting.set(link.id, resolve))
    try {
      dispatch({ type: 'initiate', link: link.id, peer })
    } catch (error) {
      waiting.delete(link.id)
      channel.abort(new Error('our own parameters cannot be sent'))
      ended.catch(() => undefined)
      throw error
    }
    // A bug of ours ends the conversation before the machine has finished.
    return Promise.race([outcome, ended.then(() => outcome)])
  }

  async function stopNow(): Promise<void> {
    const done = new AbortController()
    const grace = clock.sleep(STOP_GRACE_MS, done.signal).catch(() => undefined)
    if (state.active !== undefined)
      await Promise.race([grace, new Promise<void>((resolve) => idleListeners.add(resolve))])
    done.abort()
    for (const link of links.values()) link.channel.abort(new Error('leaving'))
    await Promise.all(conversations)
  }

  return {
    start: () => transport.handle(EXCHANGE_PROTOCOL, answer),
    exchangeWith,
    busy: () => state.active !== undefined,
    inDoubt: () => state.journal.inDoubt.map((record) => record.peer),
    lastExchange: (peer) => partners.get(peer),
    stats: () => tallies.read(state.journal.inDoubt.length),
    journal: () => journalDocument(state.journal),
    stop() {
      stopping ??= stopNow()
      return stopping
    }
  }
}
