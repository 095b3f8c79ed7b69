import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import type { DataSpec } from '../../data/spec.js'
import { hubCacheDir } from '../../hub/cache.js'
import { chooseFile } from '../../hub/choose-file.js'
import { createHubClient, type HubClient } from '../../hub/client.js'
import { type HubReference, parseHubReference, referenceText } from '../../hub/reference.js'
import { type DownloadProgress, openSnapshot, type Snapshot, type SnapshotKind } from '../../hub/snapshot.js'
import type { Environment } from './config.js'
import type { NodeConfig } from './schema.js'
import { weightLocations } from './model-hash.js'

/** Hears what comes from the hub while it comes. */
export interface HubObserver {
  /** The commit that is used from here on. */
  resolved(reference: string, sha: string): void
  /** The hub cannot be reached; the cache answers. */
  fallback(error: PeertuneError, sha: string): void
  progress(progress: DownloadProgress): void
}

export interface SourceOptions {
  readonly env: Environment
  readonly observer: HubObserver
}

/**
 * Path of the .onnx file that `reference` means: a file, a folder with model.onnx or onnx/model.onnx in it, or
 * `org/name[@revision][:file]` of the Hugging Face hub; what exists here comes first. Throws `config/no-model` and
 * `hub/*`. A path to nothing is given back as it is, for whoever reads it to say so.
 */
export async function openModelFile(reference: string, options: SourceOptions): Promise<string> {
  const found = await stat(reference).catch(() => undefined)
  if (found?.isDirectory()) return join(resolve(reference), await fileIn(reference))
  const hub = found === undefined ? parseHubReference(reference) : undefined
  if (hub === undefined) return reference
  const { path } = await fromHub(hub, 'model', options)
  return path ?? reference
}

async function fileIn(folder: string): Promise<string> {
  const files = await readdir(folder)
  const nested = (await readdir(join(folder, 'onnx')).catch(() => [])).map((file) => `onnx/${file}`)
  return chooseFile({
    name: folder,
    files: [...files, ...nested].toSorted(),
    prefix: folder.endsWith('/') ? folder : `${folder}/`
  })
}

/** Folder of the adapter that `reference` means: a folder of this machine, or `org/name[@revision]` of the hub. */
export async function openAdapterPath(reference: string, options: SourceOptions): Promise<string> {
  const hub = (await isHere(reference)) ? undefined : parseHubReference(reference)
  return hub === undefined ? reference : (await fromHub(hub, 'adapter', options)).folder
}

/** A tokenizer is named by its file, its folder, or the model of the hub that it belongs to. */
async function openTokenizerPath(reference: string, options: SourceOptions): Promise<string> {
  const hub = (await isHere(reference)) ? undefined : parseHubReference(reference)
  if (hub === undefined) return reference
  const { folder } = await fromHub(hub, 'files', options)
  return hub.file === undefined ? folder : join(folder, hub.file)
}

const isHere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false
  )

/** The configuration with models and tokenizers of the hub as files of this machine. */
export async function withLocalFiles(config: NodeConfig, options: SourceOptions): Promise<NodeConfig> {
  const model = await openModelFile(config.model, options)
  const data = (await withTokenizers(config.data, options)) as DataSpec
  const startFrom = config.startFrom === null ? null : await openAdapterPath(config.startFrom, options)
  return { ...config, model, startFrom, data }
}

/** Data sources nest; wherever one names a tokenizer, it is a path afterwards. */
async function withTokenizers(value: unknown, options: SourceOptions): Promise<unknown> {
  if (Array.isArray(value)) return Promise.all(value.map((one) => withTokenizers(one, options)))
  if (value === null || typeof value !== 'object') return value
  const entries: [string, unknown][] = []
  for (const [key, inner] of Object.entries(value)) {
    const isTokenizer = key === 'tokenizer' && typeof inner === 'string'
    entries.push([key, isTokenizer ? await openTokenizerPath(inner, options) : await withTokenizers(inner, options)])
  }
  return Object.fromEntries(entries)
}

async function fromHub(reference: HubReference, kind: SnapshotKind, options: SourceOptions): Promise<Snapshot> {
  const { env, observer } = options
  const snapshot = await openSnapshot(reference, kind, {
    cacheDir: hubCacheDir(env),
    client: isOffline(env) ? undefined : clientOf(env),
    weightFiles: weightLocations,
    progress: observer.progress,
    fallback: observer.fallback
  })
  observer.resolved(referenceText(reference), snapshot.sha)
  return snapshot
}

const HUB_URL = 'https://huggingface.co'

/** As Hugging Face's own libraries read it. */
const isOffline = (env: Environment): boolean => /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? '')

function clientOf(env: Environment): HubClient {
  const hubUrl = (env.HF_ENDPOINT || HUB_URL).replace(/\/+$/, '')
  if (!/^https?:\/\//.test(hubUrl) || !URL.canParse(hubUrl))
    throw new PeertuneError('config/wrong-value', `HF_ENDPOINT: expected the address of a hub, got ${hubUrl}`, {
      facts: { expected: HUB_URL, got: hubUrl }
    })
  return createHubClient({ hubUrl, token: env.HF_TOKEN || undefined })
}

/** For a process that logs. */
export const loggingObserver = (log: Logger): HubObserver => {
  let announced = ''
  return {
    resolved: (reference, sha) => log.info({ model: reference, commit: sha }, 'model of the Hugging Face hub'),
    fallback: (error, sha) => log.warn({ reason: error.message, commit: sha }, 'using the cached model'),
    progress({ file, total }) {
      if (file !== announced) log.info({ file, bytes: total }, 'downloading')
      announced = file
    }
  }
}
