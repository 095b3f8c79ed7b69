import type { Verdict } from '../base/verdict.js'
import type { PeerId } from '../gossip/transport.js'

/** Rejected messages from one peer before it is banned: one may be a bug, ten are a habit. */
export const REJECTS_BEFORE_BAN = 10
/** Milliseconds a banned peer stays out; its count starts anew after it. */
export const BAN_MS = 600_000
/** Peers whose refusals are remembered, the longest quiet forgotten first. */
export const MAX_REMEMBERED_OFFENDERS = 1024

/** What was refused and whose it was; rejects cost the sender its connection in the end. */
export interface RefusalBook {
  note(peer: PeerId, verdict: Verdict): void
  /** Counts by code. */
  byPeer(): ReadonlyMap<PeerId, Readonly<Record<string, number>>>
}

export function createRefusalBook(ban: (peer: PeerId, forMs: number) => void): RefusalBook {
  const counts = new Map<PeerId, Record<string, number>>()
  const rejects = new Map<PeerId, number>()
  const count = (peer: PeerId, code: string): void => {
    const own = counts.get(peer) ?? {}
    counts.delete(peer)
    counts.set(peer, { ...own, [code]: (own[code] ?? 0) + 1 })
    if (counts.size > MAX_REMEMBERED_OFFENDERS) {
      const quietest = counts.keys().next().value as PeerId
      counts.delete(quietest)
      rejects.delete(quietest)
    }
  }
  return {
    note(peer, verdict) {
      if (verdict.verdict === 'accept') return
      count(peer, verdict.code)
      if (verdict.verdict === 'ignore') return
      const total = (rejects.get(peer) ?? 0) + 1
      rejects.set(peer, total % REJECTS_BEFORE_BAN)
      if (total >= REJECTS_BEFORE_BAN) ban(peer, BAN_MS)
    },
    byPeer: () => counts
  }
}
