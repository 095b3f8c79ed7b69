import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { type PeftPlan, specsOf } from '../../base/peft-spec.js'
import { floatsOf, readSafetensors, type SafetensorsEntry, writeSafetensors } from '../../tensor/safetensors.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { type AdapterConfig, type ConfigFacts, configOf, peftEquivalent, specFromConfig } from './adapter-config.js'
import { parameterKey, parameterName } from './adapter-keys.js'
import type { NamedTensor } from '../method/method.js'
import { plainForm } from './plain-form.js'

const CONFIG_FILE = 'adapter_config.json'
const TENSORS_FILE = 'adapter_model.safetensors'
/** Beside them, for methods that PEFT has no config for: the plan as a manifest has it. */
const OWN_FILE = 'peertune.json'
const PICKLES = ['adapter_model.bin', 'pytorch_adapter.bin']

/**
 * Tensors by PEFT key -> the flat vector of `schema`. The two must name the same tensors with the same shapes, but for
 * the `frozen` ones, which must be what they are here. Throws `config/wrong-adapter` with what is missing or too many.
 */
export function parametersFrom(
  tensors: ReadonlyMap<string, SafetensorsEntry>,
  schema: ParameterSchema,
  frozen: readonly NamedTensor[] = []
): Float32Array {
  const byName = new Map(Array.from(tensors, ([key, entry]) => [parameterName(key), entry]))
  for (const constant of frozen) if (isSame(byName.get(constant.name), constant)) byName.delete(constant.name)
  const missing = schema.entries.filter(({ name }) => !byName.has(name)).map(({ name }) => name)
  const known = new Set(schema.entries.map(({ name }) => name))
  const unknown = [...byName.keys()].filter((name) => !known.has(name))
  if (missing.length > 0 || unknown.length > 0)
    throw new PeertuneError('config/wrong-adapter', 'the adapter is not for these parameters', {
      facts: { missing, unknown },
      hint: 'method, rank, target modules and head of the federation must be those the adapter was made with'
    })
  const vector = new Float32Array(schema.size)
  for (const entry of schema.entries) {
    const tensor = byName.get(entry.name) as SafetensorsEntry
    if (tensor.shape.join() !== entry.shape.join())
      throw new PeertuneError('config/wrong-adapter', `${entry.name} has shape [${tensor.shape}]`, {
        facts: { name: entry.name, got: tensor.shape, expected: entry.shape },
        hint: 'the adapter was made for another base model, or with another rank'
      })
    vector.set(floatsOf(tensor, entry.name), entry.offset)
  }
  return vector
}

function isSame(tensor: SafetensorsEntry | undefined, { name, values }: NamedTensor): boolean {
  if (tensor === undefined) return false
  const read = floatsOf(tensor, name)
  return read.length === values.length && values.every((value, index) => value === read[index])
}

/** What an adapter folder holds. */
export interface AdapterFolder {
  readonly config: AdapterConfig
  readonly plan: PeftPlan
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>
  /** Bytes of the tensors' file. */
  readonly bytes: Uint8Array
}

/** Throws `config/no-adapter`, `config/pickled-adapter` and `config/unsupported-adapter`. */
export async function readAdapterFolder(directory: string): Promise<AdapterFolder> {
  const path = join(directory, TENSORS_FILE)
  const bytes = await readFile(path).catch(async (cause: unknown) => {
    throw await noAdapter(directory, path, cause)
  })
  const tensors = readSafetensors(bytes, path)
  const own = await readJson(join(directory, OWN_FILE))
  if (own?.peft !== undefined) return { config: {}, plan: own.peft as PeftPlan, tensors, bytes }
  const saved = await readJson(join(directory, CONFIG_FILE))
  if (saved === undefined) throw await noAdapter(directory, join(directory, CONFIG_FILE), undefined)
  const plain = plainForm({ config: saved, tensors })
  return { ...plain, plan: specFromConfig(plain.config, plain.tensors), bytes }
}

async function readJson(path: string): Promise<AdapterConfig | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as AdapterConfig
  } catch (cause) {
    throw new PeertuneError('config/no-adapter', `${path} is no JSON`, {
      facts: { path },
      hint: 'the file is damaged: save or download the adapter again',
      cause
    })
  }
}

async function noAdapter(directory: string, path: string, cause: unknown): Promise<PeertuneError> {
  for (const name of PICKLES) {
    const exists = await readFile(join(directory, name)).then(
      () => true,
      () => false
    )
    if (exists)
      return new PeertuneError(
        'config/pickled-adapter',
        `${join(directory, name)} is a pickle, which can run any code`,
        {
          facts: { file: join(directory, name) },
          hint: 'convert it where you trust it: PeftModel.from_pretrained(...).save_pretrained(folder) writes safetensors'
        }
      )
  }
  return new PeertuneError('config/no-adapter', `cannot read ${path}`, {
    facts: { path },
    hint: `give a folder with ${CONFIG_FILE} and ${TENSORS_FILE}`,
    cause
  })
}

export interface SavedAdapter extends ConfigFacts {
  /** See `PeftMethod.exported`. */
  readonly tensors: readonly NamedTensor[]
  readonly plan: PeftPlan
}

/**
 * Writes a folder that `PeftModel.from_pretrained` loads, where PEFT has the method; otherwise the tensors under their
 * own names, with the plan beside them. True for what PEFT loads.
 */
export async function writeAdapter(directory: string, { tensors, plan, ...facts }: SavedAdapter): Promise<boolean> {
  const [spec, ...others] = specsOf(plan).map(peftEquivalent)
  const shapes = tensors.map((tensor) => [tensor.name, tensor] as const)
  const config = spec === undefined || others.length > 0 ? undefined : configOf(spec, shapes, facts)
  const key = (name: string): string => (spec === undefined || config === undefined ? name : parameterKey(name, spec))
  await mkdir(directory, { recursive: true })
  const [file, content] = config === undefined ? [OWN_FILE, { peft: plan }] : [CONFIG_FILE, config]
  await writeFile(join(directory, file), `${JSON.stringify(content, null, 2)}\n`)
  const entries = tensors.map(({ name, shape, values }) => ({ name: key(name), shape, data: values }))
  await writeFile(join(directory, TENSORS_FILE), writeSafetensors(entries))
  return config !== undefined
}
