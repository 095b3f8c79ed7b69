import type { KadDHT } from '@libp2p/kad-dht'
import { bounded } from '../bounded.js'
import type { Candidate } from '../discovery/discovery.js'
import { MAX_ADDRESSES_PER_PEER, MAX_WALK_CANDIDATES } from '../limits.js'

/** Milliseconds one walk may take: a walk through dead peers must not hold up the next one. */
const WALK_TIMEOUT_MS = 5_000

/** Everybody named on the way to `key`: the peers close to it, and those that were asked. At most MAX_WALK_CANDIDATES. */
export async function walkDht(dht: KadDHT, key: Uint8Array, signal: AbortSignal): Promise<readonly Candidate[]> {
  const found = new Map<string, Candidate>()
  const walk = async (limit: AbortSignal): Promise<void> => {
    for await (const event of dht.getClosestPeers(key, { signal: limit })) {
      const named = event.name === 'PEER_RESPONSE' ? event.closer : event.name === 'FINAL_PEER' ? [event.peer] : []
      for (const { id, multiaddrs } of named) {
        const addresses = multiaddrs.slice(0, MAX_ADDRESSES_PER_PEER).map(String)
        if (addresses.length > 0) found.set(id.toString(), { peer: id.toString(), addresses })
      }
      if (found.size >= MAX_WALK_CANDIDATES) break
    }
  }
  // A walk that was cut short still found whom it found.
  await bounded(walk, WALK_TIMEOUT_MS, signal).catch(() => undefined)
  return [...found.values()]
}
