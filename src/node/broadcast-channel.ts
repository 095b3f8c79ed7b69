import { isPeertuneError } from '../base/errors.js'
import type { Verdict } from '../base/verdict.js'
import { ignore, reject } from '../base/verdict.js'
import { PAYLOAD_CHUNK_BYTES, payloadAssembler, payloadChunks } from '../codec/payload.js'
import { bytesBehind, decodeSyncHeader, encodeSyncHeader, MAX_SYNC_FRAME_BYTES } from '../codec/wire-sync.js'
import type { SyncMessage, SyncSession } from '../consensus/broadcast-session.js'
import type { BroadcastVerdictCode } from '../consensus/broadcast-types.js'
import type { Channel } from '../gossip/transport.js'

/** What came of waiting for the next message on a channel. */
export type IncomingSync =
  | { readonly kind: 'message'; readonly message: SyncMessage }
  /** Closed, or the link broke: nobody's fault. */
  | { readonly kind: 'end' }
  | { readonly kind: 'unreadable'; readonly verdict: Verdict<BroadcastVerdictCode> }

export interface SyncReadOptions {
  /** Says what may follow a header before room is made for it. */
  readonly session: Pick<SyncSession, 'fits'>
  /** Milliseconds for each frame. */
  readonly timeoutMs: number
  /** Counts what has arrived; a verdict ends the conversation. */
  readonly onBytes: (count: number) => Verdict<BroadcastVerdictCode> | undefined
}

const unreadable = (verdict: Verdict<BroadcastVerdictCode>): IncomingSync => ({ kind: 'unreadable', verdict })

async function readFrame(
  channel: Channel,
  maxBytes: number,
  { timeoutMs, onBytes }: SyncReadOptions
): Promise<Uint8Array | IncomingSync> {
  try {
    const frame = await channel.receive({ timeoutMs, maxBytes })
    if (frame === undefined) return { kind: 'end' }
    const verdict = onBytes(frame.length)
    return verdict === undefined ? frame : unreadable(verdict)
  } catch (error) {
    const code = isPeertuneError(error) ? error.code : undefined
    if (code === 'gossip/receive-timeout') return unreadable(ignore('broadcast/timeout'))
    if (code === 'gossip/frame-too-large') return unreadable(reject('codec/too-large'))
    return { kind: 'end' }
  }
}

/** The next message with what follows it. Never rejects: whatever a peer does is one of the three kinds. */
export async function readSync(channel: Channel, options: SyncReadOptions): Promise<IncomingSync> {
  const frame = await readFrame(channel, MAX_SYNC_FRAME_BYTES, options)
  if (!(frame instanceof Uint8Array)) return frame
  const header = decodeSyncHeader(frame)
  if (!header.ok) return unreadable(header.verdict)
  const tooMuch = options.session.fits(header.value)
  if (tooMuch !== undefined) return unreadable(tooMuch)
  const sizeBytes = bytesBehind(header.value)
  if (sizeBytes === 0) return { kind: 'message', message: { header: header.value } }
  const assembler = payloadAssembler({ sizeBytes, sha256: '' }, sizeBytes)
  if (!assembler.ok) return unreadable(assembler.verdict)
  for (;;) {
    const chunk = await readFrame(channel, PAYLOAD_CHUNK_BYTES, options)
    if (!(chunk instanceof Uint8Array)) return chunk
    const added = assembler.value.add(chunk)
    if (!added.ok) return unreadable(added.verdict)
    if (added.value !== undefined) return { kind: 'message', message: { header: header.value, payload: added.value } }
  }
}

/** Sends a message and what follows it. Rejects with the channel's error. */
export async function writeSync(
  channel: Channel,
  { header, payload }: SyncMessage,
  onBytes: (count: number) => void
): Promise<void> {
  const frame = encodeSyncHeader(header)
  await channel.send(frame)
  onBytes(frame.length)
  for (const chunk of payload === undefined ? [] : payloadChunks(payload)) {
    await channel.send(chunk)
    onBytes(chunk.length)
  }
}
