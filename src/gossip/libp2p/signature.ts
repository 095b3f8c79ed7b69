import { peerIdFromString } from '@libp2p/peer-id'
import { parseIdentity } from './identity.js'
import type { PeerId } from '../transport.js'

/**
 * Signs as the peer of this identity: Ed25519 over the bytes themselves (RFC 8032). Throws `config/bad-identity`.
 */
export function createSigner(identity: Uint8Array): (bytes: Uint8Array) => Uint8Array {
  const key = parseIdentity(identity)
  return (bytes) => {
    const signature = key.sign(bytes)
    if (signature instanceof Promise) throw new Error('Ed25519 signs at once in Node')
    return Uint8Array.from(signature as Uint8Array)
  }
}

/**
 * Is this the peer's signature of these bytes? The key is in the peer id itself, so nobody need be asked for it; an id
 * without one (RSA) has signed nothing. Never throws.
 */
export function verifySignature(peer: PeerId, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    // The answer is a boolean at once in Node; a promise would be none.
    return peerIdFromString(peer).publicKey?.verify(bytes, signature) === true
  } catch {
    return false
  }
}
