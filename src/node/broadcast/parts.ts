import type { BroadcastLog } from '../../checkpoint/broadcast-log.js'
import type { VerifyBody } from '../../consensus/broadcast/conversation.js'
import type { SignBody } from '../../consensus/broadcast/broadcaster.js'
import type { ParticipantParts } from '../participant/types.js'

export interface BroadcastParticipantParts extends Omit<ParticipantParts, 'exchangeLog'> {
  /** Without it, a restarted peer may use a number twice, and is then stopped. */
  readonly broadcastLog?: BroadcastLog
  /** As this peer. */
  readonly sign: SignBody
  readonly verify: VerifyBody
  /** Bytes of updates kept one by one; default: MAX_HELD_BYTES. */
  readonly maxHeldBytes?: number
}
