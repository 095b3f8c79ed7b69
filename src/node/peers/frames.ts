import { isPeertuneError } from '../../base/errors.js'
import type { Decoded, Verdict } from '../../base/verdict.js'
import { ignore, reject } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../../codec/codec.js'
import { PAYLOAD_CHUNK_BYTES, type PayloadAssembler, payloadChunks } from '../../codec/wire/payload.js'
import type { Channel } from '../../gossip/transport.js'

/** Why there is no frame to read. */
export type NoFrame<Code extends string> =
  /** Closed, or the link broke: nobody's fault. */
  { readonly kind: 'end' } | { readonly kind: 'unreadable'; readonly verdict: Verdict<Code> }

export interface FrameOptions<Code extends string> {
  /** Milliseconds for each frame. */
  readonly timeoutMs: number
  /** Counts what has arrived; a verdict ends the conversation. */
  readonly onBytes: (count: number) => Verdict<Code> | undefined
}

export interface FrameReader<Code extends string> {
  /** One frame of at most `maxBytes`, or what came instead. Never rejects. */
  frame(maxBytes: number): Promise<Uint8Array | NoFrame<Code>>
  /** The chunks of a payload that there is room for, put together, or what came instead. Never rejects. */
  payload(room: Decoded<PayloadAssembler, CodecVerdictCode>): Promise<Uint8Array | NoFrame<Code>>
}

export const unreadable = <Code extends string>(verdict: Verdict<Code>) => ({ kind: 'unreadable', verdict }) as const

/** Reads a channel frame by frame; `timeout` is the code for a peer that says nothing. */
export function frameReader<Code extends string>(
  channel: Channel,
  timeout: Code,
  { timeoutMs, onBytes }: FrameOptions<Code>
): FrameReader<Code | CodecVerdictCode> {
  async function frame(maxBytes: number): Promise<Uint8Array | NoFrame<Code | CodecVerdictCode>> {
    try {
      const bytes = await channel.receive({ timeoutMs, maxBytes })
      if (bytes === undefined) return { kind: 'end' }
      const verdict = onBytes(bytes.length)
      return verdict === undefined ? bytes : unreadable(verdict)
    } catch (error) {
      return failed(error, timeout)
    }
  }
  return {
    frame,
    async payload(room) {
      if (!room.ok) return unreadable(room.verdict)
      for (;;) {
        const chunk = await frame(PAYLOAD_CHUNK_BYTES)
        if (!(chunk instanceof Uint8Array)) return chunk
        const added = room.value.add(chunk)
        if (!added.ok) return unreadable(added.verdict)
        if (added.value !== undefined) return added.value
      }
    }
  }
}

/** What a rejected `receive` says about the peer. */
function failed<Code extends string>(error: unknown, timeout: Code): NoFrame<Code | CodecVerdictCode> {
  if (!isPeertuneError(error)) return { kind: 'end' }
  if (error.code === 'gossip/receive-timeout') return unreadable(ignore(timeout))
  if (error.code === 'gossip/frame-too-large') return unreadable(reject('codec/too-large', error.message))
  return { kind: 'end' }
}

/** A message as bytes, and what follows it in chunks. */
export interface Outgoing {
  readonly frame: Uint8Array
  readonly payload: Uint8Array | undefined
}

/** Sends a frame and the chunks of the payload that follows it. Rejects with the channel's error. */
export async function sendFrames(
  channel: Channel,
  { frame, payload }: Outgoing,
  onBytes: (count: number) => void
): Promise<void> {
  await channel.send(frame)
  onBytes(frame.length)
  for (const chunk of payload === undefined ? [] : payloadChunks(payload)) {
    await channel.send(chunk)
    onBytes(chunk.length)
  }
}
