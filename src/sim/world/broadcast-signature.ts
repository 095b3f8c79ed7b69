import { createHash } from 'node:crypto'
import type { PeerId } from '../../consensus/peer-id.js'

/**
 * Stands for a signature where nobody has a key: nobody in a simulation makes one for somebody else, and attackers that
 * break Ed25519 are not simulated.
 */
export const simSign = (author: PeerId, body: Uint8Array): Uint8Array =>
  createHash('sha512').update(author).update(body).digest()

export const simVerify = (author: PeerId, body: Uint8Array, signature: Uint8Array): boolean =>
  Buffer.from(signature).equals(simSign(author, body))
