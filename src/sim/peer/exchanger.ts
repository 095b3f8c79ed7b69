import type { Verdict } from '../../base/verdict.js'
import { describeError } from '../../base/errors.js'
import { decoded, ignore, refused, reject, type Decoded } from '../../base/verdict.js'
import type { Phase } from '../../codec/wire/messages.js'
import { payloadOf } from '../../codec/wire/messages.js'
import { type PayloadBound, payloadAssembler, payloadChunks } from '../../codec/wire/payload.js'
import { decodeExchangeMessage } from '../../codec/wire/wire.js'
import { elsewhere, initialExchangeState, stepExchange } from '../../consensus/exchange/exchange.js'
import type {
  ExchangeConfig,
  ExchangeEffect,
  ExchangeEvent,
  ExchangeState,
  ExchangeVerdictCode,
  LinkId,
  LocalState,
  Parcel
} from '../../consensus/exchange/types.js'
import type { Journal } from '../../consensus/exchange/journal.js'
import type { PeerId } from '../../consensus/peer-id.js'
import { type AttemptResult, attemptResult } from '../../consensus/partners/partner.js'
import { addInto, allFinite } from '../../tensor/linear.js'
import { frameOf, type Tamper } from '../attack/attackers.js'
import type { SimDisk } from '../world/disk.js'
import type { Frame, PeerIndex, SimNetwork } from '../world/network.js'
import type { Observer } from '../world/observer.js'
import type { VirtualClock } from '../world/virtual-clock.js'

/** Messages on one link, as the daemon allows: more are not from an honest peer. */
const MAX_MESSAGES_PER_LINK = 16
/** Links at work at once, as in the daemon. */
export const MAX_LINKS = 64

export const nameOf = (peer: PeerIndex): PeerId => `p${String(peer).padStart(5, '0')}`
/** Another name of the same peer. */
export const aliasOf = (peer: PeerIndex, alias: number): PeerId => `${nameOf(peer)}.${alias}`
export const indexOf = (name: PeerId): PeerIndex => Number.parseInt(name.slice(1), 10)

export interface ExchangerParts {
  readonly peer: PeerIndex
  /** By position, what everybody goes by now. */
  readonly names: readonly PeerId[]
  readonly config: Omit<ExchangeConfig, 'self'>
  readonly clock: VirtualClock
  readonly network: SimNetwork
  readonly disk: SimDisk
  readonly observer: Observer
  readonly frameTimeoutMs: number
  /** Live, float32[size]. */
  readonly parameters: Float32Array
  readonly phase: () => Phase
  readonly place: () => Pick<LocalState, 'step' | 'degree'>
  readonly journal: Journal
  readonly tamper: Tamper | undefined
  /** An increment was added. */
  readonly onApplied: (effect: ExchangeEffect & { readonly type: 'apply' }) => void
}

/** The daemon's exchange driver, with callbacks in the place of promises: the machine is the same. */
export interface Exchanger {
  /** Tries an exchange; calls back once, unless the peer crashes. */
  attempt(to: PeerIndex, done: (result: AttemptResult) => void): void
  state(): ExchangeState
  /** The parameters have gone elsewhere by other means than steps and exchanges. */
  moved(): void
  opened(link: LinkId, from: PeerIndex): void
  received(link: LinkId, frame: Frame): void
  ended(link: LinkId): void
  /** Nothing happens here any more. */
  stop(): void
}

/** Both ends keep the names under which they met. */
interface SimLink {
  readonly partner: PeerIndex
  readonly config: ExchangeConfig
  readonly name: PeerId
  heardMs: number
  messages: number
}

interface Inner {
  readonly parts: ExchangerParts
  readonly links: Map<LinkId, SimLink>
  readonly waiting: Map<LinkId, (result: AttemptResult) => void>
  readonly payloadBound: PayloadBound
  /** With the name we go by now. */
  config: ExchangeConfig
  state: ExchangeState
  stopped: boolean
}

export function createExchanger(parts: ExchangerParts): Exchanger {
  const { config, network, peer } = parts
  const inner: Inner = {
    parts,
    links: new Map(),
    waiting: new Map(),
    payloadBound: {
      bytes: config.codec.encodedBytes(config.schema.size),
      variableLength: config.codec.variableLength === true
    },
    config: { ...config, self: parts.names[peer]! },
    state: initialExchangeState(parts.journal),
    stopped: false
  }
  return {
    attempt: (to, done) => attempt(inner, to, done),
    state: () => inner.state,
    moved() {
      inner.state = elsewhere(inner.state)
    },
    opened(link, from) {
      if (inner.links.size >= MAX_LINKS) return network.close(link, peer)
      begin(inner, link, from)
    },
    received: (link, frame) => received(inner, link, frame),
    ended: (link) => end(inner, link),
    stop() {
      inner.stopped = true
    }
  }
}

function begin(inner: Inner, id: LinkId, partner: PeerIndex): SimLink {
  const { clock, frameTimeoutMs, names, peer } = inner.parts
  const [self, name] = [names[peer]!, names[partner]!]
  if (inner.config.self !== self) inner.config = { ...inner.config, self }
  const link = { partner, config: inner.config, name, heardMs: clock.now(), messages: 0 }
  inner.links.set(id, link)
  clock.after(frameTimeoutMs, () => watch(inner, id))
  return link
}

/** Gives up a link on which nothing has been heard for too long. */
function watch(inner: Inner, id: LinkId): void {
  const { clock, frameTimeoutMs } = inner.parts
  const link = inner.links.get(id)
  if (link === undefined || inner.stopped) return
  const leftMs = link.heardMs + frameTimeoutMs - clock.now()
  if (leftMs > 0) return clock.after(leftMs, () => watch(inner, id))
  giveUp(inner, id, ignore('exchange/timeout'))
}

function giveUp(inner: Inner, id: LinkId, verdict: Verdict<ExchangeVerdictCode>): void {
  const { network, peer } = inner.parts
  const link = inner.links.get(id)!
  network.close(id, peer)
  dispatch(inner, link, { type: 'unreadable', link: id, peer: link.name, verdict })
  end(inner, id)
}

/** The last word on a link. */
function end(inner: Inner, id: LinkId): void {
  const { network, peer } = inner.parts
  const link = inner.links.get(id)
  if (link === undefined || inner.stopped) return
  network.close(id, peer)
  inner.links.delete(id)
  dispatch(inner, link, { type: 'broken', link: id, peer: link.name })
}

function attempt(inner: Inner, to: PeerIndex, done: (result: AttemptResult) => void): void {
  const { network, peer } = inner.parts
  if (inner.state.active !== undefined || inner.links.size >= MAX_LINKS) return done('busy')
  network.open({ from: peer, to, protocol: 'mixing' }, (link) => {
    if (inner.stopped) return
    if (link === undefined) return done('failed')
    const begun = begin(inner, link, to)
    inner.waiting.set(link, done)
    dispatch(inner, begun, { type: 'initiate', link, peer: begun.name })
  })
}

function received(inner: Inner, id: LinkId, frame: Frame): void {
  const link = inner.links.get(id)
  if (link === undefined || inner.stopped) return
  link.heardMs = inner.parts.clock.now()
  const read = readFrame(frame, inner)
  if (!read.ok) return giveUp(inner, id, read.verdict)
  if (link.messages++ >= MAX_MESSAGES_PER_LINK) return giveUp(inner, id, reject('exchange/too-many-messages'))
  dispatch(inner, link, { type: 'message', link: id, peer: link.name, ...read.value })
}

/** As from a channel: bytes are decoded and lengths checked before anything is made room for. */
function readFrame({ bytes, payload }: Frame, { payloadBound }: Inner): Decoded<Parcel, ExchangeVerdictCode> {
  const message = decodeExchangeMessage(bytes)
  if (!message.ok) return message
  const header = payloadOf(message.value)
  if (header === undefined) return decoded({ message: message.value })
  const assembler = payloadAssembler(header, payloadBound)
  if (!assembler.ok) return assembler
  for (const chunk of payloadChunks(payload ?? new Uint8Array(0))) {
    const added = assembler.value.add(chunk)
    if (!added.ok) return added
    if (added.value !== undefined) return decoded({ message: message.value, payload: added.value })
  }
  return refused(reject('codec/truncated'))
}

function dispatch(inner: Inner, { partner, config }: SimLink, event: ExchangeEvent): void {
  const { peer, parameters, observer, phase, place, tamper } = inner.parts
  if (inner.stopped) return
  observer.note(
    peer,
    event.type === 'message' ? `${event.message.type} from ${event.peer}` : `${event.type} ${event.peer}`
  )
  let claimed: Float32Array | undefined
  const local: LocalState = {
    ...place(),
    // Most steps look at no parameters: nothing is made up for them.
    get parameters() {
      claimed ??= tamper?.claims(parameters, partner) ?? parameters
      return claimed
    },
    phase: phase()
  }
  try {
    const [next, effects] = stepExchange({ config, local }, inner.state, event)
    inner.state = next
    for (const effect of effects) perform(inner, effect)
  } catch (error) {
    // The daemon would stop here: its own parameters cannot be sent.
    if (tamper === undefined) observer.violated('node-failed', `peer ${peer}: ${describeError(error)}`)
    inner.waiting.get(event.link)?.('failed')
    inner.waiting.delete(event.link)
  }
  observer.check(peer, inner.state, inner.links.size)
}

function perform(inner: Inner, effect: ExchangeEffect): void {
  const { disk, observer } = inner.parts
  switch (effect.type) {
    case 'record':
      return disk.append(effect.entry)
    case 'send':
      return whenSafe(inner, () => transmit(inner, effect.link, effect))
    case 'close':
      return whenSafe(inner, () => close(inner, effect.link))
    case 'apply':
      return apply(inner, effect)
    case 'undone':
      observer.count('undone')
      return inner.parts.tamper === undefined ? observer.ledger.undone(effect.exchangeId) : undefined
    case 'forgotten':
      return observer.count('forgotten')
    case 'penalise':
      return observer.count(`verdict ${effect.verdict.verdict === 'accept' ? 'accept' : effect.verdict.code}`)
    case 'finished': {
      const { outcome } = effect
      observer.count(`${effect.role} ${'code' in outcome ? `${outcome.kind} ${outcome.code}` : outcome.kind}`)
      inner.waiting.get(effect.link)?.(attemptResult(outcome))
      inner.waiting.delete(effect.link)
    }
  }
}

/** What was recorded before must be safe before anything else is said. */
function whenSafe(inner: Inner, act: () => void): void {
  const { clock, disk } = inner.parts
  const waitMs = disk.safeAtMs() - clock.now()
  if (!(waitMs > 0)) return act()
  clock.after(waitMs, () => {
    if (!inner.stopped) act()
  })
}

function transmit(inner: Inner, id: LinkId, { message, payload }: Parcel): void {
  const { network, peer, tamper } = inner.parts
  if (!inner.links.has(id)) return
  const frames = tamper?.frames(message, payload) ?? [frameOf(message, payload)]
  for (const frame of frames) network.send(id, peer, frame)
}

/** We have said all; what still arrives is not listened to. */
function close(inner: Inner, id: LinkId): void {
  inner.parts.network.close(id, inner.parts.peer)
  inner.links.delete(id)
}

function apply(inner: Inner, effect: ExchangeEffect & { readonly type: 'apply' }): void {
  const { parameters, observer, peer, tamper, onApplied } = inner.parts
  if (tamper?.applies !== false) addInto(effect.increment, parameters)
  if (tamper === undefined && !allFinite(parameters))
    observer.violated('not-finite', `peer ${peer} after ${effect.exchangeId}`)
  onApplied(effect)
}
