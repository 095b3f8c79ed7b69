import { mkdir, realpath, stat, statfs } from 'node:fs/promises'
import { basename, join, posix } from 'node:path'
import { isPeertuneError, PeertuneError } from '../base/errors.js'
import { openRepoCache, type RepoCache } from './cache.js'
import { chooseFile } from './choose-file.js'
import type { HubClient, RepoFile } from './client.js'
import { download } from './download.js'
import { DISK_RESERVE_BYTES, HUB_LIMITS } from './limits.js'
import { type HubReference, isCommit, isInside, referenceText } from './reference.js'
import { isIntact } from './verify.js'

/** What an adapter is made of, where the repository has it. */
const ADAPTER_FILES = ['adapter_config.json', 'adapter_model.safetensors', 'peertune.json', 'README.md'] as const

/** What belongs to a model besides its graph and weights, where the repository has it: all small. */
const SIDE_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'preprocessor_config.json',
  'README.md'
] as const

export interface SnapshotOptions {
  readonly cacheDir: string
  /** Undefined: offline, from the cache alone. */
  readonly client: HubClient | undefined
  /** Locations of the weights that a model file names, relative to its folder; see onnx/file/read.ts. */
  weightFiles(path: string): Promise<readonly string[]>
  /** Called as bytes come in. */
  readonly progress?: ((progress: DownloadProgress) => void) | undefined
  /** Called when the hub cannot be reached and the cache answers instead. */
  readonly fallback?: ((error: PeertuneError, sha: string) => void) | undefined
  readonly maxBytes?: number
}

export interface DownloadProgress {
  readonly file: string
  readonly received: number
  readonly total: number
}

export interface Snapshot {
  readonly sha: string
  /** Absolute, of all files of the commit that were asked for. */
  readonly folder: string
  /** The model file; absent where only what belongs to it was asked for. */
  readonly path?: string
}

/** `model`: with its graph and weights; `files`: only the small files beside them, such as the tokenizer; `adapter`. */
export type SnapshotKind = 'model' | 'files' | 'adapter'

const besides = (kind: SnapshotKind): readonly string[] => (kind === 'adapter' ? ADAPTER_FILES : SIDE_FILES)

/**
 * A model of the hub as files of this machine. What the cache has is checked against its hash and used; the rest is
 * downloaded. Without a network, or offline by choice, the last known commit of a branch answers from the cache.
 * Throws `hub/not-cached`, `hub/damaged`, `hub/too-large`, `hub/no-space`, `hub/missing-file`, `config/no-model` and
 * what the client and downloads throw.
 */
export async function openSnapshot(
  reference: HubReference,
  kind: SnapshotKind,
  options: SnapshotOptions
): Promise<Snapshot> {
  const cache = openRepoCache(options.cacheDir, reference.repo)
  const { client } = options
  const cached = (sha: string | undefined) => fromCache(reference, kind, { cache, sha, options })
  const known = isCommit(reference.revision) ? reference.revision : await cache.readRef(reference.revision)
  if (client === undefined) return cached(known)
  // A commit never changes: where all of it is here, nobody needs to be asked.
  if (isCommit(reference.revision)) {
    const here = await cached(known).catch(() => undefined)
    if (here !== undefined) return here
  }
  try {
    return await fromHub(reference, kind, { cache, client, options })
  } catch (error) {
    if (!isPeertuneError(error) || error.code !== 'hub/unreachable') throw error
    const here = await cached(known).catch(() => undefined)
    if (here === undefined) throw error
    options.fallback?.(error, here.sha)
    return here
  }
}

interface FromHub {
  readonly cache: RepoCache
  readonly client: HubClient
  readonly options: SnapshotOptions
}

async function fromHub(reference: HubReference, kind: SnapshotKind, { cache, client, options }: FromHub) {
  const { repo, revision } = reference
  const sha = isCommit(revision) ? revision : await client.commitOf(repo, revision)
  const listed = new Map((await client.files(repo, sha)).map((file) => [file.path, file]))
  const file = kind === 'model' ? chosen(reference, [...listed.keys()]) : undefined
  const sides = besides(kind).flatMap((name) => listed.get(name) ?? [])
  if (kind === 'adapter') needed(listed, 'adapter_model.safetensors', reference)
  const fetch = (files: readonly RepoFile[], before = 0) =>
    fetchAll(files, { reference, sha, cache, client, options, before })
  const oversized = sides.find(({ hash }) => hash.size > HUB_LIMITS.smallFileBytes)
  if (oversized !== undefined)
    throw tooLarge(`${repo}: ${oversized.path}`, oversized.hash.size, HUB_LIMITS.smallFileBytes)
  const fetched = await fetch([...(file === undefined ? [] : [needed(listed, file, reference)]), ...sides])
  const path = file === undefined ? undefined : join(cache.snapshot(sha), file)
  if (file !== undefined && path !== undefined) {
    const weights = await weightsOf(path, file, options)
    await fetch(
      weights.map((one) => needed(listed, one, reference)),
      fetched
    )
  }
  if (!isCommit(revision)) await cache.writeRef(revision, sha)
  return { sha, folder: cache.snapshot(sha), ...(path === undefined ? {} : { path }) }
}

interface Fetch extends FromHub {
  readonly reference: HubReference
  readonly sha: string
  /** Bytes already counted towards the limit. */
  readonly before: number
}

/** Resolves with the bytes that these files and those before them have together. */
async function fetchAll(files: readonly RepoFile[], { reference, sha, cache, client, options, before }: Fetch) {
  const total = files.reduce((sum, { hash }) => sum + hash.size, before)
  const limit = options.maxBytes ?? HUB_LIMITS.modelBytes
  if (total > limit) throw tooLarge(referenceText(reference), total, limit)
  const missing: RepoFile[] = []
  for (const file of files) if (!(await isIntact(cache.blob(file.hash.hex), file.hash))) missing.push(file)
  await requireSpace(cache.blobs, missing)
  for (const file of missing)
    await download({
      file,
      target: cache.blob(file.hash.hex),
      read: (start) => client.read(reference.repo, sha, file, start),
      progress: (received) => options.progress?.({ file: file.path, received, total: file.hash.size })
    })
  for (const { path, hash } of files) await cache.link(sha, path, hash.hex)
  return total
}

async function requireSpace(folder: string, files: readonly RepoFile[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  const wanted = files.reduce((sum, { hash }) => sum + hash.size, 0)
  const free = bavail * bsize
  if (wanted === 0 || wanted + DISK_RESERVE_BYTES <= free) return
  throw new PeertuneError('hub/no-space', `${folder}: expected ${wanted} bytes free and some to spare, got ${free}`, {
    facts: { folder, wanted, free, reserve: DISK_RESERVE_BYTES },
    hint: 'make room, or set HF_HUB_CACHE to a folder on another disk'
  })
}

interface FromCache {
  readonly cache: RepoCache
  readonly sha: string | undefined
  readonly options: SnapshotOptions
}

async function fromCache(reference: HubReference, kind: SnapshotKind, { cache, sha, options }: FromCache) {
  if (sha === undefined) throw notCached(reference, options.cacheDir, 'nothing of it')
  const files = await cache.files(sha)
  const folder = cache.snapshot(sha)
  if (files.length === 0) throw notCached(reference, options.cacheDir, 'nothing of it')
  const sides = besides(kind).filter((name) => files.includes(name))
  if (kind !== 'model') {
    if (kind === 'adapter' && !sides.includes('adapter_model.safetensors'))
      throw notCached(reference, options.cacheDir, 'no adapter_model.safetensors')
    await Promise.all(sides.map((side) => requireIntact(join(folder, side))))
    return { sha, folder }
  }
  const file = chosen(reference, files)
  const path = join(folder, file)
  const here = (name: string): string => {
    if (files.includes(name)) return join(folder, name)
    throw notCached(reference, options.cacheDir, `no ${name}`)
  }
  await requireIntact(here(file))
  for (const weights of await weightsOf(path, file, options)) await requireIntact(here(weights))
  for (const side of sides) await requireIntact(join(folder, side))
  return { sha, folder, path }
}

/** The file that was asked for, or the usual one. */
const chosen = (reference: HubReference, files: readonly string[]): string =>
  reference.file ??
  chooseFile({
    name: referenceText(reference),
    files,
    prefix: `${reference.repo}${reference.revision === 'main' ? '' : `@${reference.revision}`}:`
  })

/** Paths, from the repository's root, of the weights that a model file names. Throws `hub/weights-outside`. */
async function weightsOf(path: string, file: string, { weightFiles }: SnapshotOptions): Promise<string[]> {
  const locations = await weightFiles(path)
  if (locations.length > HUB_LIMITS.weightFiles)
    throw tooLarge(`${file}: weights in ${locations.length} files`, locations.length, HUB_LIMITS.weightFiles)
  return locations.map((location) => {
    if (isInside(location)) return posix.join(posix.dirname(file), location)
    throw new PeertuneError('hub/weights-outside', `${file} keeps weights at ${location}, outside its own folder`, {
      facts: { file, location },
      hint: 'take a model whose weights lie beside it'
    })
  })
}

function needed(listed: ReadonlyMap<string, RepoFile>, path: string, reference: HubReference): RepoFile {
  const file = listed.get(path)
  if (file !== undefined) return file
  const near = [...listed.keys()].filter((name) => /\.onnx|adapter_model|\.safetensors$/.test(name))
  throw new PeertuneError('hub/missing-file', `${referenceText(reference)} has no file ${path}`, {
    facts: { repo: reference.repo, revision: reference.revision, file: path, found: near },
    hint: near.length === 0 ? 'it holds no model' : `it has ${near.slice(0, 8).join(', ')}`
  })
}

const HASH_NAME = /^([0-9a-f]{40}|[0-9a-f]{64})$/

/** The blob's name is its hash. A copy, made where links are not allowed, has no such name and is taken as it is. */
async function requireIntact(path: string): Promise<void> {
  const blob = await realpath(path)
  const hex = basename(blob)
  if (!HASH_NAME.test(hex) || (await isIntact(blob, { hex, size: (await stat(blob)).size }))) return
  throw new PeertuneError('hub/damaged', `${path} is not what its hash says`, {
    facts: { path, blob },
    hint: `delete ${blob} and download it again`
  })
}

const notCached = (reference: HubReference, cacheDir: string, what: string): PeertuneError =>
  new PeertuneError('hub/not-cached', `${referenceText(reference)}: the cache ${cacheDir} has ${what}`, {
    facts: { repo: reference.repo, revision: reference.revision, cacheDir },
    hint: 'download it once with a network, and without HF_HUB_OFFLINE'
  })

const tooLarge = (what: string, got: number, expected: number): PeertuneError =>
  new PeertuneError('hub/too-large', `${what}: expected at most ${expected}, got ${got}`, { facts: { expected, got } })
