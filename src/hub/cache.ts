import { randomUUID } from 'node:crypto'
import { copyFile, mkdir, readFile, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { homeFolder } from '../base/home.js'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Where Hugging Face's own libraries keep what they download
 * (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): HF_HUB_CACHE, or `hub` in HF_HOME, or
 * `huggingface/hub` in XDG_CACHE_HOME or ~/.cache.
 */
export function hubCacheDir(env: Environment): string {
  const home = () => homeFolder(env)
  const expanded = (path: string): string =>
    path === '~' || path.startsWith('~/') ? join(home(), path.slice(1)) : path
  const own = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE
  if (own) return expanded(own)
  return join(expanded(env.HF_HOME || join(env.XDG_CACHE_HOME || join(home(), '.cache'), 'huggingface')), 'hub')
}

/** The folder of one repository in a cache: blobs by hash, snapshots by commit that link to them, refs by name. */
export interface RepoCache {
  /** Commit of a branch or tag as it was last seen. */
  readRef(revision: string): Promise<string | undefined>
  /** Python finds the model offline through it. */
  writeRef(revision: string, sha: string): Promise<void>
  readonly blobs: string
  blob(hash: string): string
  snapshot(sha: string): string
  /** Puts a blob into a snapshot under its own name: by a link, or a copy where links are not allowed. */
  link(sha: string, file: string, hash: string): Promise<void>
  /** Paths of all files of a snapshot, in alphabetical order. */
  files(sha: string): Promise<readonly string[]>
}

const SHA = /^[0-9a-f]{40}$/

export function openRepoCache(cacheDir: string, repo: string): RepoCache {
  const root = join(cacheDir, `models--${repo.replace('/', '--')}`)
  const blobs = join(root, 'blobs')
  const snapshot = (sha: string): string => join(root, 'snapshots', sha)
  const ref = (revision: string): string => join(root, 'refs', revision)
  return {
    blobs,
    blob: (hash) => join(blobs, hash),
    snapshot,
    async readRef(revision) {
      const text = await readFile(ref(revision), 'utf8').catch(() => '')
      return SHA.test(text.trim()) ? text.trim() : undefined
    },
    async writeRef(revision, sha) {
      await mkdir(dirname(ref(revision)), { recursive: true })
      await replace(ref(revision), (temporary) => writeFile(temporary, sha))
    },
    async link(sha, file, hash) {
      const path = join(snapshot(sha), file)
      const target = join(blobs, hash)
      await mkdir(dirname(path), { recursive: true })
      await replace(path, (temporary) =>
        symlink(relative(dirname(path), target), temporary).catch(() => copyFile(target, temporary))
      )
    },
    files: (sha) => listFiles(snapshot(sha))
  }
}

/** Another process sees the old or the new, never half of it. */
async function replace(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    await write(temporary)
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw cause
  }
}

/** Links that lead nowhere are no files. */
async function listFiles(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true }).catch(() => [])
  const found: string[] = []
  for (const entry of entries.toSorted())
    if ((await stat(join(folder, entry)).catch(() => undefined))?.isFile()) found.push(entry.replaceAll('\\', '/'))
  return found
}
