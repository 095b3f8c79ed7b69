import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type NodeProcess, startNode } from '../../scripts/testnet/node-process.js'
import { entryUrl } from '../../src/base/entry.js'
import type { Status } from '../../src/status/snapshot.js'

/** One real daemon without a network, its log in `folder`. */
export const startLone = (folder: string, config: string): Promise<NodeProcess> =>
  startNode({
    index: 0,
    cli: fileURLToPath(entryUrl('cli/main.js')),
    config,
    bootstrap: [],
    logFile: join(folder, 'node.log'),
    startTimeoutMs: 30_000
  })

export const statusOf = async (node: NodeProcess): Promise<Status> =>
  (await (await fetch(new URL('status', node.statusUrl))).json()) as Status
