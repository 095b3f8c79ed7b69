import type { Clock } from '../../base/clock.js'
import { describeError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { ACCEPT, type Verdict } from '../../base/verdict.js'
import type { Announcement, Phase } from '../../codec/wire/messages.js'
import { decodeAnnouncement, encodeAnnouncement } from '../../codec/wire/wire.js'
import { nextSequence } from '../../consensus/partners/announcement.js'
import {
  emptyPeerTable,
  hear,
  judge,
  noteExchange,
  type PeerTable,
  phaseOf,
  present
} from '../../consensus/partners/peers.js'
import { type Surroundings, suits } from '../../consensus/rounds.js'
import { announceTopic } from '../../gossip/topics.js'
import type { PeerId, Transport } from '../../gossip/transport.js'

/** Milliseconds between the first announcements, doubled each time: the first may be lost before the mesh has formed. */
const FIRST_ANNOUNCE_INTERVAL_MS = 1_000
/** Milliseconds between two announcements without news; a silent peer counts as gone after a minute. */
const ANNOUNCE_INTERVAL_MS = 8_000

/** What this peer says of itself; the rest of an announcement follows from it. */
export type OwnNews = Omit<Announcement, 'federation' | 'sequence'>

export interface MembershipParts {
  readonly transport: Transport
  /** Hash of the federation manifest. */
  readonly federation: string
  readonly news: () => OwnNews
  readonly clock: Clock
  readonly log: Logger
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
}

/** Who else is in the federation, as heard on its topic. */
export interface Membership {
  /** Subscribes and announces until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
  /** Says what is new at once: a phase change. */
  announce(): Promise<void>
  table(): PeerTable
  noteExchange(peer: PeerId, phase: Phase): void
  /** Peers of the federation connected now. */
  members(): readonly PeerId[]
  /** Members in a phase to mix with a peer in `phase`. */
  candidates(phase: Phase): readonly PeerId[]
}

/** Judges every announcement before it is passed on; bad ones cost their sender. */
export function createMembership(parts: MembershipParts): Membership {
  const { transport, federation, news, clock, log, onVerdict } = parts
  const topic = announceTopic(federation)
  let table = emptyPeerTable
  let sequence = 0

  const read = (from: PeerId, bytes: Uint8Array): { verdict: Verdict; announcement?: Announcement } => {
    const result = decodeAnnouncement(bytes)
    if (!result.ok) return { verdict: result.verdict }
    const announcement = result.value
    return { verdict: judge(table, { from, announcement }, { federation, nowMs: clock.now() }), announcement }
  }
  const validate = (from: PeerId, bytes: Uint8Array): Verdict => {
    if (from === transport.self) return ACCEPT
    const { verdict } = read(from, bytes)
    if (verdict.verdict !== 'accept') onVerdict(from, verdict)
    return verdict
  }
  const deliver = (from: PeerId, bytes: Uint8Array): void => {
    const { verdict, announcement } = read(from, bytes)
    if (from === transport.self || verdict.verdict !== 'accept' || announcement === undefined) return
    table = hear(table, { from, announcement }, { nowMs: clock.now(), step: news().step })
  }
  const announce = async (): Promise<void> => {
    sequence = nextSequence(sequence, clock.now())
    try {
      await transport.publish(topic, encodeAnnouncement({ ...news(), federation, sequence }))
    } catch (error) {
      log.debug({ error: describeError(error) }, 'could not announce')
    }
  }
  const members = () => transport.subscribers(topic)
  return {
    announce,
    table: () => table,
    noteExchange: (peer, phase) => {
      table = noteExchange(table, { peer, phase }, { nowMs: clock.now(), step: news().step })
    },
    members,
    candidates: (phase) => members().filter((peer) => suits(phase, phaseOf(table, peer))),
    async run(signal) {
      transport.subscribe(topic, validate, deliver)
      let pauseMs = FIRST_ANNOUNCE_INTERVAL_MS
      while (!signal.aborted) {
        await announce()
        await clock.sleep(pauseMs, signal).catch(() => undefined)
        pauseMs = Math.min(2 * pauseMs, ANNOUNCE_INTERVAL_MS)
      }
    }
  }
}

/** Members connected or heard of lately, and whether one of them still trains; one not heard of yet may. */
export function surroundingsOf(membership: Membership, nowMs: number): Omit<Surroundings, 'waitedMs' | 'inDoubt'> {
  const table = membership.table()
  const others = new Set([...membership.members(), ...present(table, nowMs)])
  return {
    peersKnown: others.size > 0,
    othersTraining: [...others].some((peer) => (phaseOf(table, peer) ?? 'training') === 'training')
  }
}
