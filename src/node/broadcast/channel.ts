import { payloadAssembler } from '../../codec/wire/payload.js'
import { bytesBehind, decodeSyncHeader, encodeSyncHeader, MAX_SYNC_FRAME_BYTES } from '../../codec/wire/sync.js'
import type { SyncMessage, SyncConversation } from '../../consensus/broadcast/conversation.js'
import type { BroadcastVerdictCode } from '../../consensus/broadcast/types.js'
import type { Channel } from '../../gossip/transport.js'
import { type FrameOptions, frameReader, type NoFrame, sendFrames, unreadable } from '../peers/frames.js'

/** What came of waiting for the next message on a channel. */
export type IncomingSync = { readonly kind: 'message'; readonly message: SyncMessage } | NoFrame<BroadcastVerdictCode>

export interface SyncReadOptions extends FrameOptions<BroadcastVerdictCode> {
  /** Says what may follow a header before room is made for it. */
  readonly conversation: Pick<SyncConversation, 'fits'>
}

/** The next message with what follows it. Never rejects: whatever a peer does is one of the three kinds. */
export async function readSync(channel: Channel, options: SyncReadOptions): Promise<IncomingSync> {
  const reader = frameReader<BroadcastVerdictCode>(channel, 'broadcast/timeout', options)
  const frame = await reader.frame(MAX_SYNC_FRAME_BYTES)
  if (!(frame instanceof Uint8Array)) return frame
  const decoded = decodeSyncHeader(frame)
  if (!decoded.ok) return unreadable(decoded.verdict)
  const header = decoded.value
  const tooMuch = options.conversation.fits(header)
  if (tooMuch !== undefined) return unreadable(tooMuch)
  const sizeBytes = bytesBehind(header)
  if (sizeBytes === 0) return { kind: 'message', message: { header } }
  const payload = await reader.payload(payloadAssembler({ sizeBytes, sha256: '' }, sizeBytes))
  return payload instanceof Uint8Array ? { kind: 'message', message: { header, payload } } : payload
}

/** Sends a message and what follows it. Rejects with the channel's error. */
export const writeSync = (
  channel: Channel,
  { header, payload }: SyncMessage,
  onBytes: (count: number) => void
): Promise<void> => sendFrames(channel, { frame: encodeSyncHeader(header), payload }, onBytes)
