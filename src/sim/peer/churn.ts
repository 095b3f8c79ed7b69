import { seededRng } from '../../base/rng.js'
import { drawn } from '../world/draws.js'
import type { PeerIndex } from '../world/network.js'
import type { SimPeer, World } from './peer-state.js'
import type { Scenario } from '../world/scenario.js'

/** When a peer begins: of those that join late, the last honest ones. Virtual milliseconds. */
export function joinsAt({ peers, attackers, joiners }: Scenario, peer: PeerIndex): number {
  const honest = peers - attackers.reduce((sum, { count }) => sum + count, 0)
  if (peer >= honest) return 0
  let at = honest
  for (const { count, atMs } of joiners) {
    at -= count
    if (peer >= at) return atMs
  }
  return 0
}

/** Whether anybody comes back from a disk. */
export const isMortal = ({ peer, absences }: Scenario): boolean => peer.crashesPerMinute > 0 || absences.length > 0

/** Begins, absences and crashes of all peers. */
export function planChurn(world: World, peers: readonly SimPeer[]): void {
  const { clock, scenario } = world
  const late = peers.filter(({ index }) => joinsAt(scenario, index) > 0)
  for (const peer of peers) if (!late.includes(peer)) peer.start()
  for (const peer of late) clock.after(joinsAt(scenario, peer.index), () => peer.start())
  const away = new Set<PeerIndex>()
  for (const { count, atMs, forMs } of scenario.absences)
    for (const peer of peers.slice(0, count)) planAbsence(world, peer, { away, atMs, forMs })
  if (scenario.peer.crashesPerMinute > 0) for (const peer of peers) planCrashes(world, peer, away)
}

interface Absence {
  readonly away: Set<PeerIndex>
  readonly atMs: number
  readonly forMs: number
}

function planAbsence({ clock, scenario }: World, peer: SimPeer, { away, atMs, forMs }: Absence): void {
  const { index } = peer
  const joinsAtMs = joinsAt(scenario, index)
  clock.after(Math.max(atMs, joinsAtMs), () => {
    away.add(index)
    peer.crash()
  })
  clock.after(Math.max(atMs, joinsAtMs) + forMs, () => {
    away.delete(index)
    if (!peer.running()) peer.restart()
  })
}

/** A peer dies now and then until the end of the faults, and comes back, unless it is away. */
function planCrashes({ clock, scenario }: World, peer: SimPeer, away: ReadonlySet<PeerIndex>): void {
  const { crashesPerMinute, downMs } = scenario.peer
  const rng = seededRng(scenario.seed, 'crashes', peer.index)
  const next = (): void => {
    const waitMs = (rng.uniform() * 2 * 60_000) / crashesPerMinute
    if (clock.now() + waitMs >= scenario.durationMs) return
    clock.after(waitMs, () => {
      peer.crash()
      clock.after(drawn(rng, downMs), () => {
        if (!away.has(peer.index) && !peer.running()) peer.restart()
        next()
      })
    })
  }
  const joinsAtMs = joinsAt(scenario, peer.index)
  if (joinsAtMs === 0) next()
  else clock.after(joinsAtMs, next)
}
