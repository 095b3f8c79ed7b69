import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { type FederationManifest, federationHash } from '../../base/federation.js'
import { silentLogger } from '../../base/log.js'
import { readExchangeLog } from '../../checkpoint/file-exchange-log.js'
import { createFileStore } from '../../checkpoint/file-store.js'
import type { NodeState } from '../../checkpoint/state.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import type { NodeConfig } from '../config/schema.js'
import { dataDirPaths } from '../host/data-dir.js'
import { writePrivateFile } from '../host/private-file.js'
import { recover } from '../learner/recovery.js'
import { sharedPart } from '../config/shared-part.js'

/** What a data directory remembers of the node it belongs to, so that its checkpoints can be read without the rest. */
export interface NodeRecord {
  readonly config: NodeConfig
  readonly manifest: FederationManifest
}

const recordFile = (dataDir: string): string => join(dataDirPaths(dataDir).root, 'node.json')

export const writeNodeRecord = (dataDir: string, record: NodeRecord): Promise<void> =>
  writePrivateFile(recordFile(dataDir), `${JSON.stringify(record, null, 2)}\n`)

/** Throws `config/no-node` for a folder that no node has used. */
export async function readNodeRecord(dataDir: string): Promise<NodeRecord> {
  try {
    return JSON.parse(await readFile(recordFile(dataDir), 'utf8')) as NodeRecord
  } catch (cause) {
    throw new PeertuneError('config/no-node', `${dataDir}: expected the data directory of a node that has trained`, {
      facts: { dataDir },
      hint: 'give the directory that peertune start used',
      cause
    })
  }
}

/**
 * What a data directory holds, exchanges since its newest checkpoint included: the parameters that the node would go on
 * from, even if it was killed. A node that runs there is not disturbed.
 */
export async function readTrained(
  dataDir: string,
  manifest: FederationManifest,
  schema: ParameterSchema
): Promise<NodeState | undefined> {
  const { checkpoints: directory } = dataDirPaths(dataDir)
  const hashes = { federationHash: federationHash(manifest), schemaHash: schema.hash }
  const saved = await createFileStore({ directory, log: silentLogger }).load(hashes)
  const shared = sharedPart(manifest, schema)
  const identity = { ...hashes, size: shared.schema.size }
  const load = (after: number) => readExchangeLog({ directory, identity, log: silentLogger }, after)
  const [, made] = await recover({ saved, shared, exchangeLog: { load } })
  if (saved === undefined || made.length === 0) return saved
  const parameters = saved.parameters.slice()
  for (const { increment } of made) shared.addInto(increment, parameters)
  return { ...saved, parameters, exchanges: saved.exchanges + made.length }
}
