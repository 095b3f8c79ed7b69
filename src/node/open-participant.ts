import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { entryUrl } from '../base/entry.js'
import type { Verdict } from '../base/verdict.js'
import { createFileBroadcastLog } from '../checkpoint/file-broadcast-log.js'
import { createFileExchangeLog } from '../checkpoint/file-exchange-log.js'
import { createFileStore } from '../checkpoint/file-store.js'
import type { PeerTable } from '../consensus/partners/peers.js'
import type { Dataset } from '../data/batches/batch.js'
import { createSigner, verifySignature } from '../gossip/libp2p/signature.js'
import type { PeerId } from '../gossip/transport.js'
import type { ParameterSchema } from '../tensor/schema.js'
import type { ChildTrainer } from '../train/process/child-trainer.js'
import { createBroadcastParticipant } from './broadcast/participant.js'
import { startExchangeTasks } from './pairwise/tasks.js'
import { maskOf } from './config/mask-of.js'
import { ownPlan } from './config/own-plan.js'
import { createParticipant } from './pairwise/participant.js'
import type { Participant } from './participant/types.js'
import { withPartnerBook } from './peers/partners.js'
import { sharedPart } from './config/shared-part.js'
import { withCommonStart } from './model/start-from.js'
import type { Wiring } from './wiring.js'

/** The node's data, once it is known what model they are for. */
export type OpenData = (model: ChildTrainer['description']) => Promise<Dataset>

/** The node between its trainer and its transport, as the last checkpoint left it. */
export async function openParticipant(
  wiring: Wiring,
  child: ChildTrainer,
  { openData, table }: { readonly openData: OpenData; readonly table: () => PeerTable | undefined }
): Promise<Participant> {
  const { config, manifest, dataDir, refusals, version, log } = wiring
  const trainer = await withCommonStart(child, manifest, config)
  const dataset = await openData(trainer.description)
  const { schema } = trainer.description
  const logOf = {
    directory: dataDir.checkpoints,
    identity: {
      federationHash: wiring.federation,
      schemaHash: schema.hash,
      size: sharedPart(manifest, schema).schema.size
    },
    log
  }
  const parts = {
    ...wiring,
    trainer,
    dataset,
    store: createFileStore({ directory: dataDir.checkpoints, log }),
    software: `peertune/${version}`,
    onVerdict: (peer: PeerId, verdict: Verdict) => refusals.note(peer, verdict),
    onDone: (parameters: Float32Array) => saveAdapter(wiring, trainer.description.schema, parameters)
  }
  if (manifest.mixing.mode !== 'broadcast')
    return createParticipant({
      ...parts,
      store: withPartnerBook(parts.store, { dataDir: dataDir.root, table }),
      exchangeLog: createFileExchangeLog(logOf),
      exchangeTasks: (init) => startExchangeTasks(entryUrl('node/pairwise/tasks-main.js'), init)
    })
  return createBroadcastParticipant({
    ...parts,
    broadcastLog: createFileBroadcastLog(logOf),
    sign: createSigner(wiring.identity.key),
    verify: verifySignature
  })
}

/** The trained adapter as a Hugging Face PEFT folder in the data directory. */
async function saveAdapter(
  { config, manifest, dataDir, log }: Wiring,
  schema: ParameterSchema,
  parameters: Float32Array
): Promise<void> {
  const folder = join(dataDir.root, 'adapter')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  // Brings the runtime along, which a node needs for nothing else: a tenth of the time of a start.
  const { exportAdapter } = await import('./trained/export-adapter.js')
  await exportAdapter(folder, { modelPath: config.model, task, peft, ...maskOf(config), schema, parameters })
  log.info({ folder }, 'wrote the adapter')
}
