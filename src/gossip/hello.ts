import type { Clock } from '../base/clock.js'
import { describeError, PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import { type Decoded, decoded, refused, reject, type Verdict } from '../base/verdict.js'
import { shortPeer } from './channel.js'
import { MAX_HELLO_BYTES, MAX_HELLO_RECORDS, MAX_HELLO_TEXT } from './limits.js'
import { HELLO_PROTOCOL } from './topics.js'
import type { Channel, PeerId, Transport } from './transport.js'

/** What a node says about itself. */
export interface HelloCard {
  /** Manifest hash: 64 lower-case hexadecimal digits. */
  readonly federation: string
  /** Of the software. */
  readonly version: string
  /** For people; chosen by the operator, so worth nothing as proof. */
  readonly name: string
}

/** What is known about a peer after (or without) a hello. */
export type HelloRecord =
  | { readonly peer: PeerId; readonly state: 'member'; readonly card: HelloCard }
  | { readonly peer: PeerId; readonly state: 'wrong-federation'; readonly card: HelloCard; readonly detail: string }
  /** It broke the protocol. */
  | { readonly peer: PeerId; readonly state: 'malformed'; readonly detail: string }
  /** It did not answer; asked again a few times while it stays connected. */
  | { readonly peer: PeerId; readonly state: 'silent'; readonly detail: string }

export interface HelloOptions {
  readonly transport: Transport
  readonly card: HelloCard
  readonly clock: Clock
  readonly log: Logger
  /** Told whenever a record is new or has changed. */
  readonly onRecord?: (record: HelloRecord) => void
  /** Milliseconds for each half of the exchange. */
  readonly timeoutMs?: number
  readonly attempts?: number
  /** Milliseconds between attempts. */
  readonly retryMs?: number
}

export interface Hello {
  record(peer: PeerId): HelloRecord | undefined
  /** All records, those of peers that have left included; at most MAX_HELLO_RECORDS. */
  records(): readonly HelloRecord[]
  /** True for a peer that said it belongs to our federation: only these are mixed with. */
  isMember(peer: PeerId): boolean
  stop(): void
}

export type HelloVerdictCode = 'hello/too-large' | 'hello/malformed' | 'hello/unsupported-version'

const VERSION = 1

/** The card as bytes: JSON with a version. Throws `config/name-too-long` when name or version do not fit. */
export function encodeHello(card: HelloCard): Uint8Array {
  for (const [field, text] of Object.entries({ name: card.name, version: card.version })) {
    if (text.length <= MAX_HELLO_TEXT) continue
    throw new PeertuneError('config/name-too-long', `The node's ${field} is too long`, {
      facts: { field, got: text.length, expected: `at most ${MAX_HELLO_TEXT} characters` },
      hint: 'give the node a shorter label'
    })
  }
  return new TextEncoder().encode(
    JSON.stringify({ peertune: VERSION, federation: card.federation, version: card.version, name: card.name })
  )
}

/** Reads a card a peer sent; control characters in its texts become spaces, because people will see them. */
export function decodeHello(bytes: Uint8Array): Decoded<HelloCard, HelloVerdictCode> {
  if (bytes.length > MAX_HELLO_BYTES) {
    return refused(reject('hello/too-large', `${bytes.length} bytes, at most ${MAX_HELLO_BYTES}`))
  }
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return refused(reject('hello/malformed', 'no JSON'))
  }
  if (typeof value !== 'object' || value === null) return refused(reject('hello/malformed', 'no JSON object'))
  const { peertune, federation, version, name } = value as Record<string, unknown>
  if (typeof peertune !== 'number') return refused(reject('hello/malformed', 'no version'))
  if (peertune !== VERSION) {
    return refused(reject('hello/unsupported-version', `version ${peertune}, this node speaks ${VERSION}`))
  }
  if (typeof federation !== 'string' || !/^[0-9a-f]{64}$/.test(federation)) {
    return refused(reject('hello/malformed', 'the federation is no SHA-256'))
  }
  if (!isText(version) || !isText(name)) return refused(reject('hello/malformed', 'name or version is no short text'))
  return decoded({ federation, version: printable(version), name: printable(name) })
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= MAX_HELLO_TEXT

const printable = (text: string): string => text.replace(/\p{C}/gu, ' ').trim()

/**
 * Greets every peer that connects and answers those who greet: which federation, which software. One small frame each
 * way. A peer of another federation stays connected (it serves the DHT) and is remembered as such, never mixed with.
 */
export function startHello(options: HelloOptions): Hello {
  const { transport, card, clock, log, timeoutMs = 10_000, attempts = 3, retryMs = 2_000 } = options
  const own = encodeHello(card)
  const records = new Map<PeerId, HelloRecord>()
  const stopping = new AbortController()

  const note = (record: HelloRecord) => {
    const before = records.get(record.peer)
    records.delete(record.peer)
    records.set(record.peer, record)
    if (records.size > MAX_HELLO_RECORDS) records.delete(records.keys().next().value as PeerId)
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(record)) return
    report(record, log)
    options.onRecord?.(record)
  }
  const hear = (peer: PeerId, bytes: Uint8Array | undefined) => {
    const heard = bytes === undefined ? refused(reject('hello/malformed', 'nothing at all')) : decodeHello(bytes)
    note(heard.ok ? judge(peer, heard.value, card) : { peer, state: 'malformed', detail: describe(heard.verdict) })
  }
  const listen = (channel: Channel) => channel.receive({ timeoutMs, maxBytes: MAX_HELLO_BYTES })

  const greet = async (peer: PeerId) => {
    for (let attempt = 1; attempt <= attempts; attempt++) {
      if (stopping.signal.aborted || !transport.connected().includes(peer)) return
      try {
        const channel = await transport.open(peer, HELLO_PROTOCOL, stopping.signal)
        await channel.send(own)
        hear(peer, await listen(channel))
        return await channel.close()
      } catch (error) {
        // It may have left, or greeted us meanwhile.
        if (!transport.connected().includes(peer) || isKnown(records.get(peer))) return
        note({ peer, state: tooLarge(error) ? 'malformed' : 'silent', detail: describeError(error) })
      }
      await clock.sleep(retryMs, stopping.signal).catch(() => undefined)
    }
  }

  transport.handle(HELLO_PROTOCOL, async (channel) => {
    const bytes = await listen(channel)
    hear(channel.peer, bytes)
    await channel.send(own)
  })
  const off = transport.on('connect', (peer) => void greet(peer))
  for (const peer of transport.connected()) void greet(peer)

  return {
    record: (peer) => records.get(peer),
    records: () => [...records.values()],
    isMember: (peer) => records.get(peer)?.state === 'member',
    stop: () => {
      off()
      stopping.abort(new Error('the node stops'))
    }
  }
}

function judge(peer: PeerId, theirs: HelloCard, ours: HelloCard): HelloRecord {
  if (theirs.federation === ours.federation) return { peer, state: 'member', card: theirs }
  const detail = `${shortPeer(peer)} (${theirs.name}) belongs to federation ${short(theirs.federation)}, this node to ${short(ours.federation)}`
  return { peer, state: 'wrong-federation', card: theirs, detail }
}

const short = (hash: string): string => `${hash.slice(0, 8)}…`

const describe = (verdict: Verdict): string =>
  verdict.verdict === 'accept' ? '' : `${verdict.code}: ${verdict.detail ?? ''}`

const isKnown = (record: HelloRecord | undefined): boolean => record !== undefined && 'card' in record

const tooLarge = (error: unknown): boolean => error instanceof PeertuneError && error.code === 'gossip/frame-too-large'

function report(record: HelloRecord, log: Logger): void {
  const { peer, state } = record
  if (state === 'member') log.info({ peer, name: record.card.name, version: record.card.version }, 'Met a member')
  else log.warn({ peer, state }, record.detail)
}
