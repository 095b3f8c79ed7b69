import type { Clock } from '../base/clock.js'
import { MAX_BANS } from './limits.js'
import type { PeerId } from './transport.js'

/** Who is refused, and until when. Bounded: the oldest ban goes first. */
export interface Bans {
  add(peer: PeerId, forMs: number): void
  /** Milliseconds left; 0 for a peer that is welcome. */
  remainingMs(peer: PeerId): number
}

export function createBans(clock: Clock): Bans {
  const until = new Map<PeerId, number>()
  return {
    add: (peer, forMs) => {
      const end = Math.max(until.get(peer) ?? 0, clock.now() + forMs)
      until.delete(peer)
      until.set(peer, end)
      if (until.size > MAX_BANS) until.delete(until.keys().next().value as PeerId)
    },
    remainingMs: (peer) => {
      const left = (until.get(peer) ?? 0) - clock.now()
      if (left <= 0) until.delete(peer)
      return Math.max(0, left)
    }
  }
}
