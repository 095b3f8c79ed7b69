import { decodeAnnouncement, encodeAnnouncement } from '../../codec/wire/wire.js'
import type { Phase } from '../../codec/wire/messages.js'
import { nextSequence } from '../../consensus/partners/announcement.js'
import { hear, judge, phaseOf, present } from '../../consensus/partners/peers.js'
import type { Surroundings } from '../../consensus/rounds.js'
import { joinsAt } from './churn.js'
import { indexOf } from './exchanger.js'
import type { PeerIndex } from '../world/network.js'
import { inDoubt, type Inner, type Life, nowOf } from './peer-state.js'

/** What somebody has told everybody. */
interface Told {
  readonly from: PeerIndex
  readonly bytes: Uint8Array
}

/** What a peer knows of the others: by announcements as in the daemon, or, where nobody announces, by itself. */
export function heard(inner: Inner, life: Life, { from, bytes }: Told): void {
  const read = decodeAnnouncement(bytes)
  if (!read.ok) return
  const moment = { nowMs: nowOf(inner), step: life.rounds.step }
  const { federation } = inner.world.config
  const said = { from: inner.world.names[from]!, announcement: read.value }
  const verdict = judge(life.table, said, { federation, nowMs: moment.nowMs })
  if (verdict.verdict === 'accept') life.table = hear(life.table, said, moment)
  else inner.world.observer.count(`verdict ${verdict.code}`)
}

export function announce(inner: Inner, life: Life): void {
  const { world, index, weight } = inner
  if (life.over) return
  life.sequence = nextSequence(life.sequence, nowOf(inner))
  const { step, phase, exchanges } = life.rounds
  const bytes = encodeAnnouncement({
    federation: world.config.federation,
    sequence: life.sequence,
    step,
    phase,
    exchanges,
    samples: weight,
    bytesSent: 0,
    bytesReceived: 0,
    software: 'peertune/simulated'
  })
  for (const peer of world.neighbours(index)) world.network.announce(index, peer, bytes)
  world.clock.after(world.scenario.peer.announceMs, () => announce(inner, life))
}

export function surroundings(inner: Inner, life: Life): Surroundings {
  const { world, index, waitingSinceMs } = inner
  const known = world.neighbours(index)
  const waitedMs = world.clock.now() - waitingSinceMs
  const training = (peer: PeerIndex) => (phaseAt(inner, life, peer) ?? 'training') === 'training'
  // Only a peer that settles asks; a look at everybody for every step would cost more than the step.
  const othersTraining = life.rounds.phase !== 'training' && others(inner, life, known).some(training)
  return { peersKnown: known.length > 0, othersTraining, waitedMs, inDoubt: inDoubt(life).length > 0 }
}

/** Peers present: all we know, or those heard of lately. */
function others(inner: Inner, life: Life, known: readonly PeerIndex[]): readonly PeerIndex[] {
  const { scenario, clock } = inner.world
  if (scenario.peer.announceMs === 0) return known.filter((peer) => joinsAt(scenario, peer) <= clock.now())
  return present(life.table, nowOf(inner)).map(indexOf)
}

export function phaseAt(inner: Inner, life: Life, peer: PeerIndex): Phase | undefined {
  const { world } = inner
  return world.scenario.peer.announceMs === 0
    ? world.peerAt(peer).rounds().phase
    : phaseOf(life.table, world.names[peer]!)
}
