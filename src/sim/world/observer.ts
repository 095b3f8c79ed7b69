import { createHash } from 'node:crypto'
import type { ExchangeState } from '../../consensus/exchange/types.js'
import { MAX_ACCEPTED_PER_PEER, MAX_IN_DOUBT, MAX_REMEMBERED_PEERS } from '../../consensus/exchange/journal.js'
import { createLedger, type Ledger, type Violation, type ViolationCode } from './ledger.js'
import type { PeerIndex } from './network.js'
import type { VirtualClock } from './virtual-clock.js'

/** Violations kept; the first ones tell what went wrong. */
const MAX_VIOLATIONS = 16
/** Characters of trace hashed at once. */
const TRACE_CHUNK = 1 << 16

/** Sees everything that happens in a simulation, and nothing in it sees the observer. */
export interface Observer {
  readonly ledger: Ledger
  /** One line of the trace. */
  note(peer: PeerIndex, what: string): void
  count(what: string): void
  violated(code: ViolationCode, detail: string): void
  /** After every event: what a peer holds is finite and bounded. */
  check(peer: PeerIndex, state: ExchangeState, links: number): void
  violations(): readonly Violation[]
  /** SHA-256 of the trace so far: equal for equal seeds, to the last event. */
  traceHash(): string
  counts(): Readonly<Record<string, number>>
}

export interface ObserverOptions {
  readonly clock: VirtualClock
  /** See `createLedger`. */
  readonly exact: boolean
  readonly maxLinks: number
  /** Gets every line of the trace. */
  readonly onTrace?: (line: string) => void
}

export function createObserver({ clock, exact, maxLinks, onTrace }: ObserverOptions): Observer {
  const violations: Violation[] = []
  const counts = new Map<string, number>()
  const hash = createHash('sha256')
  let chunk = ''

  const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1)
  function violated(code: ViolationCode, detail: string): void {
    count(`violation ${code}`)
    if (violations.length < MAX_VIOLATIONS) violations.push({ code, detail, atMs: clock.now() })
  }
  function note(peer: PeerIndex, what: string): void {
    const line = `${clock.now()} ${peer} ${what}\n`
    onTrace?.(line)
    chunk += line
    if (chunk.length < TRACE_CHUNK) return
    hash.update(chunk)
    chunk = ''
  }
  return {
    ledger: createLedger(violated, exact),
    note,
    count,
    violated,
    check(peer, { journal }, links) {
      const latest = [...journal.accepted.values()].at(-1)?.length ?? 0
      const bounded =
        links <= maxLinks &&
        journal.inDoubt.length <= MAX_IN_DOUBT &&
        journal.accepted.size <= MAX_REMEMBERED_PEERS &&
        latest <= MAX_ACCEPTED_PER_PEER
      if (!bounded)
        violated(
          'bound-exceeded',
          `peer ${peer}: ${links} links, ${journal.inDoubt.length} in doubt, ${journal.accepted.size} remembered`
        )
    },
    violations: () => violations,
    traceHash: () => hash.copy().update(chunk).digest('hex'),
    counts: () => Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}
