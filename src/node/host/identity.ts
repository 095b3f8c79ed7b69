import { readFile } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { createIdentity, peerIdOf } from '../../gossip/libp2p/identity.js'
import type { PeerId } from '../../gossip/transport.js'
import { writePrivateFile } from './private-file.js'
import { unreadable } from './text-file.js'

export interface Identity {
  /** The private key as libp2p protobuf bytes. */
  readonly key: Uint8Array
  readonly peerId: PeerId
}

/**
 * The identity kept in `file`; a new one is made and kept (0600) where there is none. Throws `config/bad-identity` and
 * `config/unreadable-file`, naming the file: a damaged key is never replaced, for it is who this node is to others.
 */
export async function loadIdentity(file: string): Promise<Identity> {
  const found = await readIdentity(file)
  if (found !== undefined) return found
  const key = await createIdentity()
  await writePrivateFile(file, key)
  return { key, peerId: peerIdOf(key) }
}

/** As `loadIdentity`, but makes none. */
export async function readIdentity(file: string): Promise<Identity | undefined> {
  let key: Uint8Array
  try {
    key = await readFile(file)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadable(file, file, cause)
  }
  try {
    return { key, peerId: peerIdOf(key) }
  } catch (cause) {
    const message = `${file}: expected an Ed25519 private key in libp2p's form, got ${key.length} other bytes`
    throw new PeertuneError('config/bad-identity', message, {
      facts: { file, bytes: key.length },
      hint: 'restore the file from a backup, or delete it to become a new peer',
      cause
    })
  }
}
