import { access } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { createNetworkKey } from '../../gossip/libp2p/identity.js'
import { writePrivateFile } from '../../node/host/private-file.js'
import type { Output } from '../output.js'

/** Makes the key of a private network: into `file` for its owner alone, or on stdout. Never over another file. */
export async function key(file: string | undefined, out: Output): Promise<void> {
  if (file === undefined) return out.text(createNetworkKey())
  const exists = await access(file).then(
    () => true,
    () => false
  )
  if (exists)
    throw new PeertuneError('config/file-exists', `${file}: expected a new file, got one that exists`, {
      facts: { file },
      hint: 'a key is never written over; name another file'
    })
  await writePrivateFile(file, `${createNetworkKey()}\n`)
  out.line(file)
}
