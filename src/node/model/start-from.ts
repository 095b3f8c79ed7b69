import { sha256Hex } from '../../base/bytes.js'
import { PeertuneError } from '../../base/errors.js'
import type { FederationManifest } from '../../base/federation.js'
import { parametersFrom, readAdapterFolder } from '../../peft/files/adapter-format.js'
import { isPrivateName } from '../../peft/method/private.js'
import type { SafetensorsEntry } from '../../tensor/safetensors.js'
import { createSchema, type ParameterEntry, viewOf } from '../../tensor/schema.js'
import { nestedPart, withSlots } from '../../tensor/slots.js'
import type { Trainer, TrainerDescription } from '../../train/trainer.js'
import type { NodeConfig } from '../config/schema.js'
import { mostSlots } from '../config/own-plan.js'

/**
 * The trainer with the common start that the manifest asks for: the seeded one, or that of an adapter folder, which must
 * be the same file on every peer. Throws `config/no-start`, `config/wrong-start` and what reading an adapter throws.
 */
export async function withCommonStart<T extends Trainer>(
  trainer: T,
  { startFrom, peft, peerRanks }: Partial<Pick<FederationManifest, 'startFrom' | 'peft' | 'peerRanks'>>,
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
  const most = peerRanks === undefined || peft === undefined ? undefined : mostSlots(peft)
  const initial = ownPart(tensors, description, most)
  return {
    description: { ...description, initial },
    step: (parameters, batch) => trainer.step(parameters, batch),
    evaluate: (parameters, batch) => trainer.evaluate(parameters, batch),
    close: () => trainer.close()
  }
}

/** A start of the federation's rank, as far as our slots go; what is private starts from the seed. */
function ownPart(
  tensors: ReadonlyMap<string, SafetensorsEntry>,
  { schema, initial }: Pick<TrainerDescription, 'schema' | 'initial'>,
  most: number | undefined
): Float32Array {
  const open = schema.entries.filter(({ name }) => !isPrivateName(name))
  const part = open.length === schema.entries.length ? schema : createSchema(open)
  const whole = most === undefined ? part : withSlots(part, most)
  const start = nestedPart(whole, part).take(parametersFrom(tensors, whole))
  if (part === schema) return start
  const result = initial.slice()
  for (const [index, entry] of part.entries.entries())
    viewOf(result, open[index] as ParameterEntry).set(viewOf(start, entry))
  return result
}
