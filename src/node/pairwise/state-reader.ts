import type { Clock } from '../../base/clock.js'
import { isPeertuneError } from '../../base/errors.js'
import { type Decoded, decoded, ignore, refused, reject, type Verdict } from '../../base/verdict.js'
import type { Phase, RefusalCode } from '../../codec/wire/messages.js'
import { PAYLOAD_CHUNK_BYTES, payloadAssembler, payloadBound, payloadChunks } from '../../codec/wire/payload.js'
import { MAX_MESSAGE_BYTES } from '../../codec/wire/wire.js'
import {
  decodeStateReply,
  decodeStateRequest,
  encodeStateReply,
  encodeStateRequest,
  type Place,
  type StateReply,
  type StateRequest
} from '../../codec/wire/state.js'
import { PLACE_TIMEOUT_MS } from '../../consensus/catch-up/course.js'
import type { ExchangeConfig } from '../../consensus/exchange/types.js'
import {
  type PeerState,
  stateCodec,
  stateFor,
  stateFrom,
  stateHeaderVerdict
} from '../../consensus/catch-up/state-answer.js'
import { STATE_PROTOCOL } from '../../gossip/topics.js'
import type { Channel, PeerId, Transport } from '../../gossip/transport.js'
import { openChannel } from '../peers/open-channel.js'
import { rateLimit } from '../peers/rate-limit.js'

/** Each answer costs the coding of our parameters and their bytes: two at once and then two a minute for one peer. */
export const STATES_BURST = 2
const STATES_PER_SECOND = 1 / 30
/** How far we are costs next to nothing: ten at once, and then one a second for one peer. */
const PLACES_BURST = 10
const PLACES_PER_SECOND = 1
/** Answers under way at once, to whoever: a crowd that comes back together must not take the uplink from exchanges. */
const MAX_STATES_AT_ONCE = 4
/** Peers whose requests are counted. */
const MAX_ASKERS = 1024
/** Milliseconds for one frame. */
export const STATE_FRAME_TIMEOUT_MS = 30_000

export interface StateReaderParts {
  readonly transport: Transport
  readonly clock: Clock
  readonly config: ExchangeConfig
  /** float32[schema.size]; read at once, not kept. */
  readonly parameters: () => Float32Array
  readonly moment: () => { readonly phase: Phase; readonly step: number }
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
  readonly frameTimeoutMs?: number
}

/** A look at others' parameters, and theirs at ours: read-only, within a budget, on a protocol of its own. */
export interface StateReader {
  /** Answers requests from now on. */
  start(): void
  /** Never rejects for what a peer does: a verdict says why there is no state. */
  ask(peer: PeerId): Promise<Decoded<PeerState, string>>
  /** As `ask`, without the parameters. */
  askPlace(peer: PeerId): Promise<Decoded<Place, string>>
  /** States given to others since the start. */
  given(): number
}

export function createStateReader(parts: StateReaderParts): StateReader {
  const { transport, clock, onVerdict } = parts
  const passes = rateLimit(clock, { burst: STATES_BURST, perSecond: STATES_PER_SECOND, maxKeys: MAX_ASKERS })
  const placePasses = rateLimit(clock, { burst: PLACES_BURST, perSecond: PLACES_PER_SECOND, maxKeys: MAX_ASKERS })
  let underWay = 0
  let given = 0

  const verdictOn = (peer: PeerId, request: Decoded<StateRequest, string>): RefusalCode | undefined => {
    if (!request.ok) {
      onVerdict(peer, request.verdict)
      return 'malformed'
    }
    if (request.value.federation !== parts.config.federation) return 'other-federation'
    // Where peers differ in rank they can tell each other how far they are, but not start from each other's states.
    const anyRank = request.value.placeOnly && parts.config.layouts !== undefined
    if (request.value.schema !== parts.config.schema.hash && !anyRank) return 'other-schema'
    if (request.value.placeOnly ? placePasses(peer) : passes(peer) && underWay < MAX_STATES_AT_ONCE) return undefined
    onVerdict(peer, ignore('state/rate-limited'))
    return 'rate-limited'
  }

  async function answer(channel: Channel): Promise<void> {
    const timeoutMs = parts.frameTimeoutMs ?? STATE_FRAME_TIMEOUT_MS
    const frame = await channel.receive({ timeoutMs, maxBytes: MAX_MESSAGE_BYTES }).catch((error: unknown) => {
      if (isPeertuneError(error) && error.code === 'gossip/frame-too-large')
        onVerdict(channel.peer, reject('codec/too-large', error.message))
      throw error
    })
    if (frame === undefined) return
    const request = decodeStateRequest(frame)
    const code = verdictOn(channel.peer, request)
    if (code !== undefined) return channel.send(encodeStateReply({ type: 'refuse', code }))
    if (request.ok && request.value.placeOnly)
      return channel.send(encodeStateReply({ type: 'place', place: placeOf(parts) }))
    underWay++
    try {
      const { config, parameters } = parts
      const own = { config, parameters: parameters(), place: placeOf(parts), peer: channel.peer, count: given }
      const { state, payload } = stateFor(own)
      await channel.send(encodeStateReply({ type: 'state', state }))
      for (const chunk of payloadChunks(payload)) await channel.send(chunk)
      given++
    } finally {
      underWay--
    }
  }

  return {
    start: () =>
      transport.handle(STATE_PROTOCOL, async (channel) => {
        // Whatever ends the conversation ends it for the asker alone.
        await answer(channel).catch(() => undefined)
        await channel.close().catch(() => undefined)
      }),
    ask: (peer) => ask(parts, peer, STATE_OF),
    askPlace: (peer) => ask(parts, peer, PLACE_OF),
    given: () => given
  }
}

function placeOf({ config, moment }: StateReaderParts): Place {
  const { phase, step } = moment()
  return { phase, step, weight: config.weight }
}

/** What is asked of a peer, and how its answer is read. */
interface Question<Answer> {
  readonly placeOnly: boolean
  /** Rejects with the channel's error. */
  readonly read: (parts: StateReaderParts, channel: Channel, timeoutMs: number) => Promise<Decoded<Answer, string>>
}

const STATE_OF: Question<PeerState> = { placeOnly: false, read: readState }
const PLACE_OF: Question<Place> = { placeOnly: true, read: readPlace }

async function ask<Answer>(
  parts: StateReaderParts,
  peer: PeerId,
  { placeOnly, read }: Question<Answer>
): Promise<Decoded<Answer, string>> {
  const { transport, clock, config, onVerdict, frameTimeoutMs = STATE_FRAME_TIMEOUT_MS } = parts
  const timeoutMs = placeOnly ? Math.min(PLACE_TIMEOUT_MS, frameTimeoutMs) : frameTimeoutMs
  const channel = await openChannel(transport, clock, { peer, protocol: STATE_PROTOCOL, timeoutMs })
  if (typeof channel === 'string') return refused(ignore(channel))
  try {
    await channel.send(encodeStateRequest({ federation: config.federation, schema: config.schema.hash, placeOnly }))
    const result = await read(parts, channel, timeoutMs)
    if (!result.ok) onVerdict(peer, result.verdict)
    await channel.close()
    return result
  } catch {
    channel.abort(new Error('no state'))
    return refused(ignore('state/broken-channel'))
  }
}

/** These three reject with the channel's error. */
async function readReply(channel: Channel, timeoutMs: number): Promise<Decoded<StateReply, string>> {
  const frame = await channel.receive({ timeoutMs, maxBytes: MAX_MESSAGE_BYTES })
  if (frame === undefined) return refused(ignore('state/no-answer'))
  const reply: Decoded<StateReply, string> = decodeStateReply(frame)
  return reply.ok && reply.value.type === 'refuse' ? refused(ignore(`state/${reply.value.code}`)) : reply
}

async function readPlace(_: StateReaderParts, channel: Channel, timeoutMs: number): Promise<Decoded<Place, string>> {
  const reply = await readReply(channel, timeoutMs)
  if (!reply.ok) return reply
  return reply.value.type === 'place' ? decoded(reply.value.place) : refused(reject('state/unexpected-answer'))
}

async function readState(
  { config }: StateReaderParts,
  channel: Channel,
  timeoutMs: number
): Promise<Decoded<PeerState, string>> {
  const reply = await readReply(channel, timeoutMs)
  if (!reply.ok) return reply
  if (reply.value.type !== 'state') return refused(reject('state/unexpected-answer'))
  const { state } = reply.value
  const verdict = stateHeaderVerdict(config, state)
  if (verdict !== undefined) return refused(verdict)
  const assembler = payloadAssembler(state.payload, payloadBound(stateCodec(config), config.schema.size))
  if (!assembler.ok) return assembler
  for (;;) {
    const chunk = await channel.receive({ timeoutMs, maxBytes: PAYLOAD_CHUNK_BYTES })
    if (chunk === undefined) return refused(ignore('state/truncated'))
    const added = assembler.value.add(chunk)
    if (!added.ok) return added
    if (added.value !== undefined) return stateFrom(config, state, added.value)
  }
}
