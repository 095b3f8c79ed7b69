import type { Verdict } from '../../base/verdict.js'
import { ignore } from '../../base/verdict.js'
import type { Announcement, Phase } from '../../codec/wire/messages.js'
import type { AnnouncementVerdictCode } from './announcement.js'
import { judgeAnnouncement } from './announcement.js'
import { keepLatest } from '../keep-latest.js'
import type { PeerId } from '../peer-id.js'

/** Peers in the table, each under a kilobyte: as many as one node keeps connections. */
export const MAX_PEERS = 256

/** Milliseconds after which a silent peer may give its place to another, and no longer counts as present. */
export const SILENT_MS = 60_000

/** What we know of one peer. Staleness is measured on our own clock, the local step; nobody else's is trusted. */
export interface PeerRecord {
  readonly announcement: Announcement
  /** Phase as last heard, by announcement or in an exchange. */
  readonly phase: Phase
  readonly heardAtMs: number
  /** Our step when we last heard of it. */
  readonly heardAtStep: number
}

export interface PeerTable {
  readonly records: ReadonlyMap<PeerId, PeerRecord>
  /** Our step and time at the last exchange with a peer, the latest last. Bounded by MAX_PEERS. */
  readonly exchanged: ReadonlyMap<PeerId, { readonly atStep: number; readonly atMs: number }>
}

export const emptyPeerTable: PeerTable = { records: new Map(), exchanged: new Map() }

/** Our own clock when something is heard. */
export interface LocalMoment {
  readonly nowMs: number
  readonly step: number
}

/** The peer silent for longest, where that is long enough to give up its place. */
function replaceable({ records }: PeerTable, nowMs: number): PeerId | undefined {
  const [oldest] = [...records].toSorted((a, b) => a[1].heardAtMs - b[1].heardAtMs)
  return oldest !== undefined && nowMs - oldest[1].heardAtMs >= SILENT_MS ? oldest[0] : undefined
}

/** What a peer says of itself, and who that is: whoever signed it. */
export interface Heard {
  readonly from: PeerId
  readonly announcement: Announcement
}

/** For the pubsub validator: quick, and changes nothing. */
export function judge(
  table: PeerTable,
  { from, announcement }: Heard,
  { federation, nowMs }: { readonly federation: string; readonly nowMs: number }
): Verdict<AnnouncementVerdictCode> {
  const record = table.records.get(from)
  // A long silent peer starts afresh: one whose clock was set back would otherwise never be heard again.
  const current = record !== undefined && nowMs - record.heardAtMs < SILENT_MS
  const last = current ? { sequence: record.announcement.sequence, heardAtMs: record.heardAtMs } : undefined
  const verdict = judgeAnnouncement(announcement, last, { federation, nowMs })
  if (verdict.verdict !== 'accept' || record !== undefined || table.records.size < MAX_PEERS) return verdict
  return replaceable(table, nowMs) === undefined ? ignore('announcement/table-full') : verdict
}

/** Takes in an announcement that was judged acceptable. */
export function hear(table: PeerTable, { from, announcement }: Heard, moment: LocalMoment): PeerTable {
  const records = new Map(table.records)
  if (!records.has(from) && records.size >= MAX_PEERS) {
    const gone = replaceable(table, moment.nowMs)
    if (gone === undefined) return table
    records.delete(gone)
  }
  const { nowMs: heardAtMs, step: heardAtStep } = moment
  records.set(from, { announcement, phase: announcement.phase, heardAtMs, heardAtStep })
  return { ...table, records }
}

/** An exchange with `peer` was committed, in either role; its phase may be news. */
export function noteExchange(
  table: PeerTable,
  { peer, phase }: { readonly peer: PeerId; readonly phase: Phase },
  { nowMs, step }: LocalMoment
): PeerTable {
  const exchanged = keepLatest(table.exchanged, [peer, { atStep: step, atMs: nowMs }], MAX_PEERS)
  const known = table.records.get(peer)
  if (known === undefined) return { ...table, exchanged }
  return { exchanged, records: new Map(table.records).set(peer, { ...known, phase }) }
}

export const phaseOf = (table: PeerTable, peer: PeerId): Phase | undefined => table.records.get(peer)?.phase

/** Peers heard of within SILENT_MS. */
export const present = (table: PeerTable, nowMs: number): readonly PeerId[] =>
  [...table.records].flatMap(([peer, { heardAtMs }]) => (nowMs - heardAtMs < SILENT_MS ? [peer] : []))
