import {
  decodeStateReply,
  decodeStateRequest,
  encodeStateReply,
  encodeStateRequest,
  type Place
} from '../../codec/wire/state.js'
import { PLACE_TIMEOUT_MS } from '../../consensus/catch-up/course.js'
import type { ExchangeConfig, LinkId } from '../../consensus/exchange/types.js'
import { type PeerState, stateFor, stateFrom, stateHeaderVerdict } from '../../consensus/catch-up/state-answer.js'
import type { Tamper } from '../attack/attackers.js'
import type { Frame, PeerIndex, SimNetwork } from '../world/network.js'
import type { Observer } from '../world/observer.js'
import type { VirtualClock } from '../world/virtual-clock.js'

export interface StatesParts {
  readonly peer: PeerIndex
  readonly names: readonly string[]
  readonly clock: VirtualClock
  readonly network: SimNetwork
  readonly observer: Observer
  readonly config: Omit<ExchangeConfig, 'self'>
  readonly timeoutMs: number
  /** Live, float32[size]. */
  readonly parameters: Float32Array
  readonly place: () => Pick<Place, 'phase' | 'step'>
  readonly tamper: Tamper | undefined
}

/** A look at others' parameters, and theirs at ours: the daemon's state reader, with callbacks in the place of promises. */
export interface States {
  /** Calls back once, with nothing where no good answer came; never after `stop`. */
  ask(to: PeerIndex, done: (state: PeerState | undefined) => void): void
  /** As `ask`, without the parameters. */
  askPlace(to: PeerIndex, done: (place: Place | undefined) => void): void
  opened(link: LinkId, from: PeerIndex): void
  /** False for links that are somebody else's. */
  received(link: LinkId, frame: Frame): boolean
  ended(link: LinkId): void
  stop(): void
}

/** What waits on a link, and for how long: for an answer to our question, or for somebody's question. */
type Waiting = { readonly timeoutMs: number } & (
  | { readonly from: PeerIndex }
  | { readonly answer: (frame: Frame | undefined) => void }
)

interface Inner {
  readonly parts: StatesParts
  readonly links: Map<LinkId, Waiting>
  given: number
  stopped: boolean
}

export function createStates(parts: StatesParts): States {
  const inner: Inner = { parts, links: new Map(), given: 0, stopped: false }
  return {
    ask: (to, done) => ask(inner, { to, placeOnly: false }, (frame) => done(frame && readState(inner, frame))),
    askPlace: (to, done) => ask(inner, { to, placeOnly: true }, (frame) => done(frame && readPlace(frame))),
    opened: (link, from) => wait(inner, link, { from, timeoutMs: parts.timeoutMs }),
    received(link, frame) {
      const waiting = inner.links.get(link)
      if (waiting === undefined) return false
      if ('from' in waiting) reply(inner, { link, from: waiting.from }, frame)
      over(inner, link, frame)
      return true
    },
    ended: (link) => over(inner, link, undefined),
    stop() {
      inner.stopped = true
      inner.links.clear()
    }
  }
}

function wait(inner: Inner, link: LinkId, waiting: Waiting): void {
  inner.links.set(link, waiting)
  inner.parts.clock.after(waiting.timeoutMs, () => over(inner, link, undefined))
}

/** One question and one answer for each link. */
function over({ parts, links }: Inner, link: LinkId, frame: Frame | undefined): void {
  const waiting = links.get(link)
  if (waiting === undefined) return
  links.delete(link)
  parts.network.close(link, parts.peer)
  if ('answer' in waiting) waiting.answer(frame)
}

interface Question {
  readonly to: PeerIndex
  readonly placeOnly: boolean
}

function ask(inner: Inner, { to, placeOnly }: Question, answer: (frame: Frame | undefined) => void): void {
  const { network, peer, config, timeoutMs } = inner.parts
  network.open({ from: peer, to, protocol: 'state' }, (link) => {
    if (inner.stopped) return
    if (link === undefined) return answer(undefined)
    wait(inner, link, { answer, timeoutMs: placeOnly ? Math.min(PLACE_TIMEOUT_MS, timeoutMs) : timeoutMs })
    const { federation, schema } = config
    network.send(link, peer, { bytes: encodeStateRequest({ federation, schema: schema.hash, placeOnly }) })
  })
}

interface Asker {
  readonly link: LinkId
  readonly from: PeerIndex
}

function reply(inner: Inner, { link, from }: Asker, { bytes }: Frame): void {
  const { network, peer, config, parameters, place: whereabouts, tamper, names, observer } = inner.parts
  const request = decodeStateRequest(bytes)
  if (!request.ok || request.value.federation !== config.federation) return observer.count('state refused')
  const place: Place = { ...whereabouts(), weight: config.weight }
  if (request.value.placeOnly) return network.send(link, peer, { bytes: encodeStateReply({ type: 'place', place }) })
  const claimed = tamper?.claims(parameters, from) ?? parameters
  try {
    const own = { config, parameters: claimed, place, peer: names[from]!, count: inner.given++ }
    const { state, payload } = stateFor(own)
    network.send(link, peer, { bytes: encodeStateReply({ type: 'state', state }), payload })
  } catch (error) {
    // What cannot be coded is not sent: an honest peer has no such parameters.
    if (tamper === undefined) observer.violated('node-failed', `peer ${peer} has no state to give: ${String(error)}`)
  }
}

function readPlace({ bytes }: Frame): Place | undefined {
  const reply = decodeStateReply(bytes)
  return reply.ok && reply.value.type === 'place' ? reply.value.place : undefined
}

function readState({ parts: { config } }: Inner, { bytes, payload = new Uint8Array(0) }: Frame): PeerState | undefined {
  const reply = decodeStateReply(bytes)
  if (!reply.ok || reply.value.type !== 'state') return undefined
  const { state } = reply.value
  if (stateHeaderVerdict(config, state) !== undefined) return undefined
  const read = stateFrom(config, state, payload)
  return read.ok ? read.value : undefined
}
