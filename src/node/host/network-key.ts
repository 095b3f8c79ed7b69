import { PeertuneError } from '../../base/errors.js'
import { parseNetworkKey } from '../../gossip/libp2p/identity.js'
import { readTextFile } from './text-file.js'

/** Bytes. The key is 95; the rest is room for other line ends. */
const MAX_KEY_FILE_BYTES = 256

/** The text of a network key file. Throws `config/bad-network-key`, naming the file, and `config/unreadable-file`. */
export async function readNetworkKey(file: string): Promise<string> {
  const text = await readTextFile(file, MAX_KEY_FILE_BYTES)
  try {
    parseNetworkKey(text)
    return text
  } catch (cause) {
    const expected = 'a network key (/key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits, one per line)'
    throw new PeertuneError('config/bad-network-key', `${file}: expected ${expected}`, {
      facts: { file },
      hint: 'use the file one member of the network made with peertune key, byte for byte',
      cause
    })
  }
}
