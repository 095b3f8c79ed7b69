import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { generateKey } from '@libp2p/pnet'
import type { PrivateKey } from '@libp2p/interface'
import { fromString } from 'uint8arrays/from-string'
import { toString as textOf } from 'uint8arrays/to-string'
import { PeertuneError } from '../../base/errors.js'
import type { PeerId } from '../transport.js'

/** Bytes of a libp2p pre-shared key file: two header lines and 64 hexadecimal digits. */
const NETWORK_KEY_BYTES = 95

/**
 * A new Ed25519 private key as libp2p protobuf bytes (68 bytes): the node's identity, to be kept secret on disk.
 * Not by `generateKeyPairFromSeed`: it hands node:crypto a JWK without the public half, which Node 26 refuses.
 */
export async function createIdentity(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair('Ed25519'))
}

/** Reads bytes made by `createIdentity`. Throws `config/bad-identity`. */
export function parseIdentity(identity: Uint8Array): PrivateKey {
  try {
    const key = privateKeyFromProtobuf(identity)
    if (key.type !== 'Ed25519') throw new Error(`a key of type ${key.type}`)
    return key
  } catch (cause) {
    throw new PeertuneError('config/bad-identity', 'The identity key is not a libp2p private key', {
      facts: { bytes: identity.length, expected: 'protobuf of an Ed25519 private key, 68 bytes' },
      hint: 'Restore the file from a backup, or delete it to become a new peer',
      cause
    })
  }
}

/** The peer id that belongs to an identity. Throws `config/bad-identity`. */
export const peerIdOf = (identity: Uint8Array): PeerId => peerIdFromPrivateKey(parseIdentity(identity)).toString()

/**
 * A new key for a private network, in the text format go-libp2p and js-libp2p share ("swarm.key"):
 * https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md
 */
export function createNetworkKey(): string {
  const key = new Uint8Array(NETWORK_KEY_BYTES)
  generateKey(key)
  return textOf(key)
}

/** Checks the text of a network key. Throws `config/bad-network-key`. */
export function parseNetworkKey(text: string): Uint8Array {
  const lines = text.trim().split('\n')
  const [format, encoding, digits] = lines.map((line) => line.trim())
  if (lines.length !== 3 || format !== '/key/swarm/psk/1.0.0/' || encoding !== '/base16/' || !isKey(digits ?? '')) {
    throw new PeertuneError('config/bad-network-key', 'The network key is not a libp2p pre-shared key', {
      facts: { expected: '/key/swarm/psk/1.0.0/ then /base16/ then 64 hexadecimal digits, one per line' },
      hint: 'Use the file one member of the network made, byte for byte'
    })
  }
  return fromString([format, encoding, digits].join('\n'))
}

const isKey = (digits: string): boolean => /^[0-9a-f]{64}$/i.test(digits)
