import { MAX_INBOUND_BYTES, MAX_INBOUND_BYTES_PER_PEER } from './limits.js'
import type { PeerId } from './transport.js'

/** Bytes of frames that peers have announced and that are not yet handed over: bounded per peer and in all. */
export interface FrameBudget {
  /** False when the bytes do not fit; nothing is reserved then. */
  reserve(peer: PeerId, bytes: number): boolean
  release(peer: PeerId, bytes: number): void
  /** Bytes reserved by everybody. */
  reserved(): number
}

export function createFrameBudget({
  perPeer = MAX_INBOUND_BYTES_PER_PEER,
  total = MAX_INBOUND_BYTES
} = {}): FrameBudget {
  const byPeer = new Map<PeerId, number>()
  let sum = 0
  return {
    reserve: (peer, bytes) => {
      const held = byPeer.get(peer) ?? 0
      if (held + bytes > perPeer || sum + bytes > total) return false
      if (bytes > 0) byPeer.set(peer, held + bytes)
      sum += bytes
      return true
    },
    release: (peer, bytes) => {
      const held = (byPeer.get(peer) ?? 0) - bytes
      if (held > 0) byPeer.set(peer, held)
      else byPeer.delete(peer)
      sum -= bytes
    },
    reserved: () => sum
  }
}
