import type { Verdict } from '../../base/verdict.js'
import type { PeerId } from '../../gossip/transport.js'

/** Rejected messages from one peer before it is banned: one may be a bug, ten are a habit. */
export const REJECTS_BEFORE_BAN = 10
/** Milliseconds a banned peer stays out; its count starts anew after it. */
export const BAN_MS = 600_000
/** Peers whose refusals are remembered, the longest quiet forgotten first. */
export const MAX_REMEMBERED_OFFENDERS = 1024

/** What is held against one peer. */
export interface Offence {
  /** What it last broke, and how. */
  readonly code: string
  readonly detail?: string
  readonly atMs: number
  /** Rejects since it was last banned, of REJECTS_BEFORE_BAN. */
  readonly rejects: number
  /** Until when it was last turned away for it. */
  readonly bannedUntilMs?: number
}

/** What was refused and whose it was; rejects cost the sender its connection in the end. */
export interface RefusalBook {
  note(peer: PeerId, verdict: Verdict): void
  /** Also of a peer that somebody else has turned away for it. */
  banned(peer: PeerId, verdict: Verdict, forMs: number): void
  /** Counts by code. */
  byPeer(): ReadonlyMap<PeerId, Readonly<Record<string, number>>>
  /** Only those that broke a rule; an ignored message is nobody's fault. */
  offences(): ReadonlyMap<PeerId, Offence>
}

type Rejection = Verdict & { readonly verdict: 'reject' }

export interface RefusalBookInit {
  readonly ban: (peer: PeerId, forMs: number) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export function createRefusalBook({ ban, now }: RefusalBookInit): RefusalBook {
  const counts = new Map<PeerId, Record<string, number>>()
  const offences = new Map<PeerId, Offence>()

  function count(peer: PeerId, code: string): void {
    const own = counts.get(peer) ?? {}
    counts.delete(peer)
    counts.set(peer, { ...own, [code]: (own[code] ?? 0) + 1 })
    if (counts.size > MAX_REMEMBERED_OFFENDERS) {
      const quietest = counts.keys().next().value as PeerId
      counts.delete(quietest)
      offences.delete(quietest)
    }
  }

  function blame(peer: PeerId, { code, detail }: Rejection, alreadyForMs?: number): void {
    const before = offences.get(peer)
    const total = (before?.rejects ?? 0) + 1
    const forMs = alreadyForMs ?? (total >= REJECTS_BEFORE_BAN ? BAN_MS : undefined)
    const bannedUntilMs = forMs === undefined ? before?.bannedUntilMs : now() + forMs
    offences.set(peer, {
      code,
      ...(detail === undefined ? {} : { detail }),
      atMs: now(),
      rejects: forMs === undefined ? total : 0,
      ...(bannedUntilMs === undefined ? {} : { bannedUntilMs })
    })
    if (forMs !== undefined && alreadyForMs === undefined) ban(peer, forMs)
  }

  function note(peer: PeerId, verdict: Verdict, alreadyForMs?: number): void {
    if (verdict.verdict === 'accept') return
    count(peer, verdict.code)
    if (verdict.verdict === 'reject') blame(peer, verdict, alreadyForMs)
  }

  return {
    note: (peer, verdict) => note(peer, verdict),
    banned: note,
    byPeer: () => counts,
    offences: () => offences
  }
}
