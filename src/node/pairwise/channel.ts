import { payloadOf } from '../../codec/wire/messages.js'
import { payloadAssembler, type PayloadBound } from '../../codec/wire/payload.js'
import { decodeExchangeMessage, encodeExchangeMessage, MAX_MESSAGE_BYTES } from '../../codec/wire/wire.js'
import type { ExchangeVerdictCode, Parcel } from '../../consensus/exchange/types.js'
import type { Channel } from '../../gossip/transport.js'
import { type FrameOptions, frameReader, type NoFrame, sendFrames, unreadable } from '../peers/frames.js'

/** What came of waiting for the next message on a channel. */
export type Incoming = (Parcel & { readonly kind: 'message' }) | NoFrame<ExchangeVerdictCode>

export interface ReadOptions extends FrameOptions<ExchangeVerdictCode> {
  /** What the agreed codec needs for the agreed schema; no other payload is made room for. */
  readonly payload: PayloadBound
}

/** The next message with its payload, put together. Never rejects: whatever a peer does is one of the three kinds. */
export async function readMessage(channel: Channel, options: ReadOptions): Promise<Incoming> {
  const reader = frameReader<ExchangeVerdictCode>(channel, 'exchange/timeout', options)
  const frame = await reader.frame(MAX_MESSAGE_BYTES)
  if (!(frame instanceof Uint8Array)) return frame
  const message = decodeExchangeMessage(frame)
  if (!message.ok) return unreadable(message.verdict)
  const header = payloadOf(message.value)
  if (header === undefined) return { kind: 'message', message: message.value }
  const payload = await reader.payload(payloadAssembler(header, options.payload))
  return payload instanceof Uint8Array ? { kind: 'message', message: message.value, payload } : payload
}

/** Sends a message and the chunks of its payload. Rejects with the channel's error. */
export const writeMessage = (
  channel: Channel,
  { message, payload }: Parcel,
  onBytes: (count: number) => void
): Promise<void> => sendFrames(channel, { frame: encodeExchangeMessage(message), payload }, onBytes)
