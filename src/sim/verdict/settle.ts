import { indexOf } from '../peer/exchanger.js'
import type { SimPeer, World } from '../peer/peer-state.js'

/** Virtual milliseconds after the end of the faults within which every exchange must be settled. */
const SETTLE_LIMIT_MS = 600_000

const isSettled = (peer: SimPeer): boolean => {
  const exchange = peer.exchange()
  return exchange !== undefined && exchange.active === undefined && exchange.journal.inDoubt.length === 0
}

/** The faults are over: what is in doubt comes to an end, and then everything must be whole. */
export async function settle(world: World, peers: readonly SimPeer[], honest: readonly SimPeer[]): Promise<void> {
  const { clock, network, observer, scenario } = world
  network.heal()
  for (const peer of peers) peer.finish()
  const limitMs = scenario.durationMs + SETTLE_LIMIT_MS
  // Doubts about attackers may never end; those about honest peers must.
  const done = () => honest.every((peer) => isSettled(peer) || onlyAttackersIn(world, peer))
  while (!done() && clock.now() < limitMs) await clock.runUntil(clock.now() + 1_000)
  for (const peer of honest)
    if (!isSettled(peer) && !onlyAttackersIn(world, peer)) observer.violated('never-settled', `peer ${peer.index}`)
  observer.ledger.close()
}

function onlyAttackersIn({ peerAt }: World, peer: SimPeer): boolean {
  const exchange = peer.exchange()
  if (exchange === undefined) return false
  const partners = [...exchange.journal.inDoubt, ...(exchange.active === undefined ? [] : [exchange.active])]
  return partners.every((one) => !peerAt(indexOf(one.peer)).honest)
}
