import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PeftSpec } from '../base/federation.js'
import { PeertuneError } from '../base/errors.js'
import { floatsOf, readSafetensors, type SafetensorsEntry, writeSafetensors } from '../tensor/safetensors.js'
import { type ParameterSchema, viewOf } from '../tensor/schema.js'

/** What Hugging Face PEFT puts in front of the module path in its files. */
const PEFT_PREFIX = 'base_model.model.'
const CONFIG_FILE = 'adapter_config.json'
const TENSORS_FILE = 'adapter_model.safetensors'

/** Parameter name of a key in `adapter_model.safetensors`. */
export const parameterName = (key: string): string =>
  key.startsWith(PEFT_PREFIX) ? key.slice(PEFT_PREFIX.length) : key

/**
 * Tensors by PEFT key -> the flat vector of `schema`. The two must name the same tensors with the same shapes; throws
 * `config/wrong-adapter` with what is missing or too many.
 */
export function parametersFrom(tensors: ReadonlyMap<string, SafetensorsEntry>, schema: ParameterSchema): Float32Array {
  const byName = new Map(Array.from(tensors, ([key, entry]) => [parameterName(key), entry]))
  const missing = schema.entries.filter(({ name }) => !byName.has(name)).map(({ name }) => name)
  const known = new Set(schema.entries.map(({ name }) => name))
  const unknown = [...byName.keys()].filter((name) => !known.has(name))
  if (missing.length > 0 || unknown.length > 0)
    throw new PeertuneError('config/wrong-adapter', 'the adapter is not for these parameters', {
      facts: { missing, unknown },
      hint: 'rank, target modules and head of the federation must be those the adapter was made with'
    })
  const vector = new Float32Array(schema.size)
  for (const entry of schema.entries) {
    const tensor = byName.get(entry.name) as SafetensorsEntry
    if (tensor.shape.join() !== entry.shape.join())
      throw new PeertuneError('config/wrong-adapter', `${entry.name} has shape [${tensor.shape}]`, {
        facts: { name: entry.name, got: tensor.shape, expected: entry.shape }
      })
    vector.set(floatsOf(tensor, entry.name), entry.offset)
  }
  return vector
}

/** Reads start values from a folder that PEFT wrote. Throws `config/no-adapter` and what `parametersFrom` throws. */
export async function readAdapter(directory: string, schema: ParameterSchema): Promise<Float32Array> {
  const path = join(directory, TENSORS_FILE)
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new PeertuneError('config/no-adapter', `cannot read ${path}`, {
      facts: { path },
      hint: 'give a folder with adapter_config.json and adapter_model.safetensors; pickled .bin files must be converted',
      cause
    })
  })
  return parametersFrom(readSafetensors(bytes, path), schema)
}

type LoraSpec = Extract<PeftSpec, { method: 'lora' }>

export interface SavedAdapter {
  readonly schema: ParameterSchema
  readonly parameters: Float32Array
  readonly spec: LoraSpec
  /** PEFT's `task_type`. */
  readonly taskType: 'CAUSAL_LM' | 'SEQ_CLS' | undefined
}

/** Writes a folder that `PeftModel.from_pretrained` loads. Target modules are whole paths, so that none is mistaken. */
export async function writeAdapter(
  directory: string,
  { schema, parameters, spec, taskType }: SavedAdapter
): Promise<void> {
  const suffix = '.lora_A.weight'
  const targets = schema.entries.flatMap(({ name }) => (name.endsWith(suffix) ? name.slice(0, -suffix.length) : []))
  const config = {
    peft_type: 'LORA',
    ...(taskType === undefined ? {} : { task_type: taskType }),
    base_model_name_or_path: null,
    r: spec.rank,
    lora_alpha: spec.alpha,
    lora_dropout: 0,
    bias: 'none',
    target_modules: targets,
    ...(spec.head.length === 0 ? {} : { modules_to_save: spec.head }),
    inference_mode: true
  }
  const tensors = schema.entries.map((entry) => ({
    name: `${PEFT_PREFIX}${entry.name}`,
    shape: entry.shape,
    data: viewOf(parameters, entry)
  }))
  await writeFile(join(directory, CONFIG_FILE), `${JSON.stringify(config, null, 2)}\n`)
  await writeFile(join(directory, TENSORS_FILE), writeSafetensors(tensors))
}

/**
 * The spec that an `adapter_config.json` and the names beside it stand for. Heads are taken from the tensors, as PEFT
 * lists modules there that the model may not have. Throws `config/unsupported-adapter` for other methods than LoRA.
 */
export function specFromConfig(config: Readonly<Record<string, unknown>>, keys: readonly string[]): LoraSpec {
  const variant = ['use_dora', 'use_rslora', 'lora_bias'].find((flag) => config[flag] === true)
  const kind = variant ?? String(config.peft_type)
  if (kind !== 'LORA')
    throw new PeertuneError('config/unsupported-adapter', `adapters of kind ${kind} are not supported`, {
      facts: { kind }
    })
  const names = keys.map(parameterName)
  const head = names.flatMap((name) => (name.includes('.lora_') ? [] : name.slice(0, name.lastIndexOf('.'))))
  const targets = names.flatMap((name) =>
    name.endsWith('.lora_A.weight') ? name.slice(0, -'.lora_A.weight'.length) : []
  )
  return {
    method: 'lora',
    rank: Number(config.r),
    alpha: Number(config.lora_alpha),
    targets,
    head: [...new Set(head)],
    seed: 'unused: the start comes from the adapter'
  }
}
