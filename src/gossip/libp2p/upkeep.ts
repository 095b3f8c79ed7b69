import { peerIdFromString } from '@libp2p/peer-id'
import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Rng } from '../../base/rng.js'
import { type Candidate, createDiscovery, type Discovery } from '../discovery/discovery.js'
import { readKnownPeers, writeKnownPeers } from '../discovery/known-peers.js'
import { connectionsOf } from './channels.js'
import type { Node } from './config.js'
import { walkDht } from './dht.js'
import type { Dialer } from './dialer.js'
import type { Meter } from './meter.js'
import { DEAD_PEER_MS, MAX_KNOWN_PEERS } from '../limits.js'
import type { PeerId } from '../transport.js'

/** Milliseconds between looks at dead peers and writes of the remembered ones. */
const HOUSEKEEPING_MS = 10_000

/** Bytes of a random place in the key space to walk to (SHA-256 size). */
const WALK_KEY_BYTES = 32

export interface Upkeep {
  readonly node: Node
  readonly self: PeerId
  readonly dialer: Dialer
  readonly meter: Meter
  readonly knownPeersPath: string | undefined
  /** Connected peers of the own federation to look for. */
  readonly target: number
  useful(): number
  connected(): readonly PeerId[]
  /** Told the running discovery, so that events can hurry it. */
  onDiscovery(discovery: Discovery): void
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
}

/** Finds peers and drops dead ones until the signal aborts. */
export async function keepUp(upkeep: Upkeep, signal: AbortSignal): Promise<void> {
  const { node, knownPeersPath, rng, log } = upkeep
  const remembered = knownPeersPath === undefined ? [] : await readKnownPeers(knownPeersPath, log)
  const discovery = createDiscovery({
    ...upkeep,
    walk: (stop) => walkDht(node.services.dht, walkKey(upkeep.self, rng), stop),
    dial: (candidate) => upkeep.dialer.dialCandidate(node, candidate),
    remembered
  })
  upkeep.onDiscovery(discovery)
  await Promise.all([discovery.run(signal), keepHouse(upkeep, remembered, signal)])
}

/** Every other walk goes to our own neighbourhood, the rest somewhere at random: near and far are both found. */
function walkKey(self: PeerId, rng: Rng): Uint8Array {
  if (rng.integer(2) === 0) return peerIdFromString(self).toMultihash().bytes
  return Uint8Array.from({ length: WALK_KEY_BYTES }, () => rng.integer(256))
}

async function keepHouse(upkeep: Upkeep, remembered: readonly Candidate[], signal: AbortSignal): Promise<void> {
  const { clock, knownPeersPath, log } = upkeep
  while (!signal.aborted) {
    await clock.sleep(HOUSEKEEPING_MS, signal).catch(() => undefined)
    if (!signal.aborted) dropDead(upkeep)
    if (knownPeersPath === undefined) continue
    const current = await currentPeers(upkeep.node)
    const now = new Set(current.map(({ peer }) => peer))
    // Those of an earlier run stay behind the current ones: after a bad night they may be all that is left.
    await writeKnownPeers(knownPeersPath, [...current, ...remembered.filter(({ peer }) => !now.has(peer))], log)
  }
}

/** The monitor's pings make every living peer send something; who is silent for a minute has gone without a goodbye. */
function dropDead({ node, meter, connected, clock, log }: Upkeep): void {
  for (const peer of connected()) {
    const last = meter.lastReceivedAt(peer)
    if (last === undefined || clock.now() - last < DEAD_PEER_MS) continue
    log.info({ peer, silentMs: clock.now() - last }, 'Dropped a silent peer')
    for (const connection of connectionsOf(node, peer)) connection.abort(new Error('silent for too long'))
  }
}

async function currentPeers(node: Node): Promise<readonly Candidate[]> {
  const found: Candidate[] = []
  for (const peer of node.getPeers().slice(0, MAX_KNOWN_PEERS)) {
    try {
      const { addresses } = await node.peerStore.get(peer)
      if (addresses.length > 0) {
        found.push({ peer: peer.toString(), addresses: addresses.map(({ multiaddr }) => multiaddr.toString()) })
      }
    } catch {
      // Left in the meantime.
    }
  }
  return found
}
