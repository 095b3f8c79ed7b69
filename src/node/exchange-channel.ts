import { isPeertuneError } from '../base/errors.js'
import type { Verdict } from '../base/verdict.js'
import { ignore, reject } from '../base/verdict.js'
import type { ExchangeMessage } from '../codec/messages.js'
import { payloadOf } from '../codec/messages.js'
import type { PayloadBound } from '../codec/payload.js'
import { PAYLOAD_CHUNK_BYTES, payloadAssembler, payloadChunks } from '../codec/payload.js'
import { decodeExchangeMessage, encodeExchangeMessage, MAX_MESSAGE_BYTES } from '../codec/wire.js'
import type { ExchangeVerdictCode } from '../consensus/exchange-types.js'
import type { Channel } from '../gossip/transport.js'

/** What came of waiting for the next message on a channel. */
export type Incoming =
  | { readonly kind: 'message'; readonly message: ExchangeMessage; readonly payload?: Uint8Array }
  /** Closed, or the link broke: nobody's fault. */
  | { readonly kind: 'end' }
  | { readonly kind: 'unreadable'; readonly verdict: Verdict<ExchangeVerdictCode> }

export interface ReadOptions {
  /** What the agreed codec needs for the agreed schema; no other payload is made room for. */
  readonly payload: PayloadBound
  /** Milliseconds for each frame. */
  readonly timeoutMs: number
  /** Counts what has arrived; a verdict ends the conversation. */
  readonly onBytes: (count: number) => Verdict<ExchangeVerdictCode> | undefined
}

const unreadable = (verdict: Verdict<ExchangeVerdictCode>): Incoming => ({ kind: 'unreadable', verdict })

/** What a rejected `receive` says about the peer. */
function incomingFrom(error: unknown): Incoming {
  const code = isPeertuneError(error) ? error.code : undefined
  if (code === 'gossip/receive-timeout') return unreadable(ignore('exchange/timeout'))
  if (code === 'gossip/frame-too-large')
    return unreadable(reject('codec/too-large', error instanceof Error ? error.message : undefined))
  return { kind: 'end' }
}

/** One frame of at most `maxBytes`, or what came instead. */
async function readFrame(channel: Channel, maxBytes: number, options: ReadOptions): Promise<Uint8Array | Incoming> {
  try {
    const frame = await channel.receive({ timeoutMs: options.timeoutMs, maxBytes })
    if (frame === undefined) return { kind: 'end' }
    const verdict = options.onBytes(frame.length)
    return verdict === undefined ? frame : unreadable(verdict)
  } catch (error) {
    return incomingFrom(error)
  }
}

/** The next message with its payload, put together. Never rejects: whatever a peer does is one of the three kinds. */
export async function readMessage(channel: Channel, options: ReadOptions): Promise<Incoming> {
  const frame = await readFrame(channel, MAX_MESSAGE_BYTES, options)
  if (!(frame instanceof Uint8Array)) return frame
  const message = decodeExchangeMessage(frame)
  if (!message.ok) return unreadable(message.verdict)
  const header = payloadOf(message.value)
  if (header === undefined) return { kind: 'message', message: message.value }
  const assembler = payloadAssembler(header, options.payload)
  if (!assembler.ok) return unreadable(assembler.verdict)
  for (;;) {
    const chunk = await readFrame(channel, PAYLOAD_CHUNK_BYTES, options)
    if (!(chunk instanceof Uint8Array)) return chunk
    const added = assembler.value.add(chunk)
    if (!added.ok) return unreadable(added.verdict)
    if (added.value !== undefined) return { kind: 'message', message: message.value, payload: added.value }
  }
}

/** Sends a message and the chunks of its payload. Rejects with the channel's error. */
export async function writeMessage(
  channel: Channel,
  message: ExchangeMessage,
  payload: Uint8Array | undefined,
  onBytes: (count: number) => void
): Promise<void> {
  const frame = encodeExchangeMessage(message)
  await channel.send(frame)
  onBytes(frame.length)
  for (const chunk of payload === undefined ? [] : payloadChunks(payload)) {
    await channel.send(chunk)
    onBytes(chunk.length)
  }
}
