import { createPublicKey, verify } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'
import { describe, expect, it } from 'vitest'
import { createIdentity, peerIdOf } from '../../../src/gossip/libp2p/identity.js'
import { createSigner, verifySignature } from '../../../src/gossip/libp2p/signature.js'

describe('signatures', () => {
  it("are Ed25519 by the key in the peer id, as Node's own verifier sees it", async () => {
    const identity = await createIdentity()
    const peer = peerIdOf(identity)
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i)
    const signature = createSigner(identity)(bytes)
    expect(signature.length).toBe(64)
    expect(verifySignature(peer, bytes, signature)).toBe(true)
    const x = Buffer.from(peerIdFromString(peer).publicKey!.raw).toString('base64url')
    const key = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } })
    expect(verify(null, bytes, key, signature)).toBe(true)
  })

  it('of other bytes, by another peer, cut off, or by no peer at all are none', async () => {
    const [mine, other] = [await createIdentity(), await createIdentity()]
    const bytes = Uint8Array.from([1, 2, 3])
    const signature = createSigner(mine)(bytes)
    const peer = peerIdOf(mine)
    expect(verifySignature(peer, Uint8Array.from([1, 2, 4]), signature)).toBe(false)
    expect(verifySignature(peerIdOf(other), bytes, signature)).toBe(false)
    expect(verifySignature(peer, bytes, signature.subarray(1))).toBe(false)
    for (const stranger of ['', 'anna', 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N'])
      expect(verifySignature(stranger, bytes, signature)).toBe(false)
  })
})
