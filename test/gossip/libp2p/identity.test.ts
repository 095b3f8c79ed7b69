import { createPrivateKey, createPublicKey, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createIdentity, parseIdentity } from '../../../src/gossip/libp2p/identity.js'

/** Everything of an Ed25519 private key in PKCS #8 but its seed (RFC 8410, 7). */
const PKCS8_HEADER = Buffer.from('302e020100300506032b657004220420', 'hex')
/** Protobuf of a libp2p private key: type 1 (Ed25519), then 64 bytes of data. */
const PROTOBUF_HEADER = '08011240'

const publicKeyOf = (seed: Uint8Array) =>
  createPublicKey(createPrivateKey({ key: Buffer.concat([PKCS8_HEADER, seed]), format: 'der', type: 'pkcs8' }))

const halvesOf = (identity: Uint8Array) => ({ seed: identity.subarray(4, 36), publicKey: identity.subarray(36) })

describe('an identity', () => {
  it('is a seed and the public key that node:crypto derives from it, in the protobuf of libp2p', async () => {
    const identity = await createIdentity()
    expect(Buffer.from(identity.subarray(0, 4)).toString('hex')).toBe(PROTOBUF_HEADER)
    const { seed, publicKey } = halvesOf(identity)
    expect(Buffer.from(publicKey).toString('base64url')).toBe(publicKeyOf(seed).export({ format: 'jwk' }).x)
  })

  it('signs so that node:crypto accepts it', async () => {
    const identity = await createIdentity()
    const message = Buffer.from('averages')
    const signature = await parseIdentity(identity).sign(message)
    expect(verify(null, message, publicKeyOf(halvesOf(identity).seed), signature)).toBe(true)
    signature[0]! ^= 1
    expect(verify(null, message, publicKeyOf(halvesOf(identity).seed), signature)).toBe(false)
  })

  it('is another one every time', async () => {
    const [one, other] = [await createIdentity(), await createIdentity()]
    expect(one).not.toEqual(other)
  })

  /** https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md, "Test vectors". */
  it('is read as the libp2p specification has it', () => {
    const publicKey = '1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e'
    const seed = '7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d'
    const key = parseIdentity(Buffer.from(PROTOBUF_HEADER + seed + publicKey, 'hex'))
    expect(Buffer.from(key.publicKey.raw).toString('hex')).toBe(publicKey)
    expect(publicKeyOf(Buffer.from(seed, 'hex')).export({ format: 'jwk' }).x).toBe(
      Buffer.from(publicKey, 'hex').toString('base64url')
    )
  })
})
