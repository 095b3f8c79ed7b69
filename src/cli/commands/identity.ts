import { resolve } from 'node:path'
import { type Environment, defaultDataDir } from '../../node/config/config.js'
import { dataDirPaths, openDataDir } from '../../node/host/data-dir.js'
import { type Identity, loadIdentity, readIdentity } from '../../node/host/identity.js'
import type { Output } from '../output.js'

export interface IdentityOptions {
  readonly dataDir?: string
  readonly json?: boolean
}

/** Prints the peer id of a data directory; makes directory and key where there are none. */
export async function identity(options: IdentityOptions, env: Environment, out: Output): Promise<void> {
  const { root, identity: file } = dataDirPaths(options.dataDir ? resolve(options.dataDir) : defaultDataDir(env))
  const { peerId } = (await readIdentity(file)) ?? (await makeIdentity(root))
  if (options.json) out.json({ peerId, file })
  else out.line(peerId)
}

async function makeIdentity(root: string): Promise<Identity> {
  const dir = await openDataDir(root)
  return loadIdentity(dir.identity).finally(() => dir.release())
}
