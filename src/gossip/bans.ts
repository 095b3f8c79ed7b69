import type { Clock } from '../base/clock.js'
import { MAX_BANS } from './limits.js'
import type { PeerId } from './transport.js'

/** Who is refused, and until when. Bounded: the oldest ban goes first. */
export interface Bans {
  add(peer: PeerId, forMs: number): void
  /** Refuses exactly these from now on, beside those that are banned. */
  deny(peers: ReadonlySet<PeerId>): void
  /** Milliseconds left; 0 for a peer that is welcome, Infinity for one that is denied. */
  remainingMs(peer: PeerId): number
}

export function createBans(clock: Clock): Bans {
  const until = new Map<PeerId, number>()
  let denied: ReadonlySet<PeerId> = new Set()
  return {
    add: (peer, forMs) => {
      const end = Math.max(until.get(peer) ?? 0, clock.now() + forMs)
      until.delete(peer)
      until.set(peer, end)
      if (until.size > MAX_BANS) until.delete(until.keys().next().value as PeerId)
    },
    deny: (peers) => {
      denied = peers
    },
    remainingMs: (peer) => {
      if (denied.has(peer)) return Number.POSITIVE_INFINITY
      const left = (until.get(peer) ?? 0) - clock.now()
      if (left <= 0) until.delete(peer)
      return Math.max(0, left)
    }
  }
}
