import { sha256Hex } from '../base/bytes.js'
import { PeertuneError } from '../base/errors.js'
import type { FederationManifest } from '../base/federation.js'
import { parametersFrom, readAdapterFolder } from '../peft/adapter-format.js'
import type { Trainer } from '../train/trainer.js'
import type { NodeConfig } from './config-schema.js'

/**
 * The trainer with the common start that the manifest asks for: the seeded one, or that of an adapter folder, which must
 * be the same file on every peer. Throws `config/no-start`, `config/wrong-start` and what reading an adapter throws.
 */
export async function withCommonStart<T extends Trainer>(
  trainer: T,
  { startFrom }: Pick<FederationManifest, 'startFrom'>,
  config: Pick<NodeConfig, 'startFrom'>
): Promise<Trainer> {
  if (startFrom === undefined && config.startFrom === null) return trainer
  if (startFrom === undefined)
    throw new PeertuneError(
      'config/wrong-start',
      'startFrom: this federation starts from its seed, not from a folder',
      {
        facts: { folder: config.startFrom ?? '' },
        hint: 'leave startFrom out of the configuration; who wants another start makes another federation'
      }
    )
  if (config.startFrom === null)
    throw new PeertuneError('config/no-start', 'startFrom is missing, expected the folder the federation starts from', {
      facts: { expected: startFrom.sha256 },
      hint: 'get the adapter folder from whoever made the federation, and name it as startFrom'
    })
  const { tensors, bytes } = await readAdapterFolder(config.startFrom)
  const got = sha256Hex(bytes)
  if (got !== startFrom.sha256)
    throw new PeertuneError('config/wrong-start', `${config.startFrom}: another adapter than the federation's`, {
      facts: { folder: config.startFrom, expected: startFrom.sha256, got },
      hint: 'all peers must start from the same file: get the one with this SHA-256'
    })
  const { description } = trainer
  const initial = parametersFrom(tensors, description.schema)
  return {
    description: { ...description, initial },
    step: (parameters, batch) => trainer.step(parameters, batch),
    evaluate: (parameters, batch) => trainer.evaluate(parameters, batch),
    close: () => trainer.close()
  }
}
