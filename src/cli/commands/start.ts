import { type ConfigFlags, type Environment, checkConfigFiles, resolveConfig } from '../../node/config/config.js'
import { readRunFile } from '../../node/host/data-dir.js'
import { createLogger } from '../../node/host/logger.js'
import { processHost, runNode } from '../lifecycle.js'
import type { Output } from '../output.js'

export interface StartOptions extends ConfigFlags {
  readonly config: string
  readonly json?: boolean
}

/** Runs a node until it stops; resolves with the exit code. */
export async function start(options: StartOptions, env: Environment, out: Output): Promise<number> {
  const resolved = await resolveConfig(options.config, options, env)
  await checkConfigFiles(resolved)
  const { config } = resolved
  const log = createLogger({ level: config.logLevel })
  // Loaded only now: libp2p and the rest take longer than finding a mistake in the configuration.
  const { createNode } = await import('../../node/node.js')
  const node = await createNode(config, { log })
  const started = async () => {
    const { addresses, peerId } = node.status()
    const url = (await readRunFile(config.dataDir))?.url
    if (options.json) return out.json({ peerId, listening: addresses, status: url })
    for (const address of addresses) out.line(`listening ${address}`)
    if (url !== undefined) out.line(`status ${url}`)
  }
  return runNode(node, { host: processHost, log, started })
}
