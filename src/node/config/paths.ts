import { existsSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type HomeVariables, homeFolder } from '../../base/home.js'
import type { DataSpec } from '../../data/spec.js'
import { parseHubReference } from '../../hub/reference.js'
import type { Origin } from './fields.js'
import type { NodeConfig } from './schema.js'
import { unreadable } from '../host/text-file.js'
import type { FieldPath } from '../host/yaml-file.js'

/** Fields of the data sources that are paths. */
const DATA_PATHS = ['path', 'testPath', 'tokenizer', 'chatTemplate', 'images', 'labels'] as const

type ChangePath = (path: string, field: FieldPath) => string

/** Fields that may name a model or an adapter of the hub instead of a path. */
const HUB_FIELDS: readonly unknown[] = ['model', 'startFrom', 'tokenizer']

const isFromHub = (path: string, field: FieldPath): boolean =>
  HUB_FIELDS.includes(field.at(-1)) && parseHubReference(path) !== undefined

/**
 * Relative paths start at `folder`, and `~/` at the home directory. A model of the hub, `org/name`, stays as it is where
 * there is no such path.
 */
export function resolvePaths(config: NodeConfig, folder: string, env: HomeVariables): NodeConfig {
  const absolute: ChangePath = (path, field) => {
    const local = path === '~' || path.startsWith('~/') ? join(homeFolder(env), path.slice(1)) : resolve(folder, path)
    return isFromHub(path, field) && !existsSync(local) ? path : local
  }
  return { ...mapInputs(config, absolute), dataDir: absolute(config.dataDir, ['dataDir']) }
}

/** Throws `config/unreadable-file` for the first file the configuration names that cannot be read. */
export async function checkFiles(config: NodeConfig, origin: Origin): Promise<void> {
  const named: { file: string; field: FieldPath }[] = []
  mapInputs(config, (file, field) => {
    named.push({ file, field })
    return file
  })
  for (const { file, field } of named.filter((one) => !isFromHub(one.file, one.field)))
    await access(withoutTensor(file), constants.R_OK).catch((cause: unknown) => {
      throw unreadable(origin(field), file, cause)
    })
}

/** `file.safetensors#name` names a tensor in a file. */
const withoutTensor = (file: string): string => file.replace(/(\.safetensors)#[^/]*$/, '$1')

/** Every path the node reads from, changed; in the order of the file. */
function mapInputs(config: NodeConfig, change: ChangePath): NodeConfig {
  return {
    ...config,
    federation: change(config.federation, ['federation']),
    model: change(config.model, ['model']),
    startFrom: config.startFrom === null ? null : change(config.startFrom, ['startFrom']),
    maskFile: config.maskFile === null ? null : change(config.maskFile, ['maskFile']),
    data: mapData(config.data, ['data'], change),
    networkKey: config.networkKey === null ? null : change(config.networkKey, ['networkKey']),
    denyList: config.denyList === null ? null : change(config.denyList, ['denyList'])
  }
}

function mapData<Spec extends DataSpec>(spec: Spec, field: FieldPath, change: ChangePath): Spec {
  if (spec.kind === 'union')
    return { ...spec, parts: spec.parts.map((part, i) => mapData(part, [...field, 'parts', i], change)) }
  const source: Readonly<Record<string, unknown>> = { ...spec }
  const changed = DATA_PATHS.flatMap((key) => {
    const path = source[key]
    return typeof path === 'string' ? [[key, change(path, [...field, key])] as const] : []
  })
  const inputs = spec.kind === 'tensors' ? { inputs: mapRecord(spec.inputs, [...field, 'inputs'], change) } : {}
  return { ...spec, ...Object.fromEntries(changed), ...inputs }
}

const mapRecord = (paths: Readonly<Record<string, string>>, field: FieldPath, change: ChangePath) =>
  Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, change(path, [...field, name])]))
