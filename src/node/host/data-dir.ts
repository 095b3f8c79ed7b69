import { chmod, mkdir, readFile, readdir, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { PeertuneError, isPeertuneError } from '../../base/errors.js'
import { isDiskFull, reasonOf } from '../../base/system-error.js'
import { checkRoom, diskFull } from './disk-room.js'
import { acquireLock } from './lock-file.js'
import { writePrivateFile } from './private-file.js'

/** Where a running daemon is to be found; what `peertune status` reads. */
export interface RunFile {
  readonly pid: number
  /** Of the status server, with a slash at its end. */
  readonly url: string
  readonly addresses: readonly string[]
}

/** Paths inside a data directory. */
export interface DataDirPaths {
  readonly root: string
  readonly identity: string
  readonly lock: string
  readonly run: string
  /** What libp2p remembers of peers. */
  readonly datastore: string
  readonly checkpoints: string
}

/** A data directory that this process alone holds. */
export interface DataDir extends DataDirPaths {
  /** Tells the command line where this daemon is. */
  announce(run: RunFile): Promise<void>
  /** Takes the announcement back and gives the directory free. Idempotent. */
  release(): Promise<void>
}

export function dataDirPaths(path: string): DataDirPaths {
  const root = resolve(path)
  return {
    root,
    identity: join(root, 'identity.key'),
    lock: join(root, 'lock'),
    run: join(root, 'run.json'),
    datastore: join(root, 'datastore'),
    checkpoints: join(root, 'checkpoints')
  }
}

/**
 * Makes the directory where it is missing (0700) and takes it for this process. Throws `config/data-dir-in-use` with
 * the other process's id, `config/data-dir-too-open`, `config/data-dir-unusable` and `config/disk-full`.
 */
export async function openDataDir(path: string): Promise<DataDir> {
  const paths = dataDirPaths(path)
  await orUnusable(paths.root, prepare(paths))
  const lock = await orUnusable(paths.root, acquireLock(paths.lock))
  if (!lock.ok)
    throw new PeertuneError('config/data-dir-in-use', `${paths.root}: in use by process ${lock.pid}`, {
      facts: { dataDir: paths.root, pid: lock.pid },
      hint: 'stop that node, or give this one a data directory of its own: --data-dir DIR'
    })
  const release = async () => {
    await rm(paths.run, { force: true })
    await lock.release()
  }
  try {
    await orUnusable(paths.root, checkRoom(paths.root))
  } catch (error) {
    await release()
    throw error
  }
  return { ...paths, announce: (run) => writePrivateFile(paths.run, `${JSON.stringify(run)}\n`), release }
}

/** What the daemon of this directory announced; `undefined` where none has, or what is there is no announcement. */
export async function readRunFile(path: string): Promise<RunFile | undefined> {
  try {
    const run: unknown = JSON.parse(await readFile(dataDirPaths(path).run, 'utf8'))
    return isRunFile(run) ? run : undefined
  } catch {
    return undefined
  }
}

const isRunFile = (run: unknown): run is RunFile =>
  run !== null && typeof run === 'object' && 'url' in run && typeof run.url === 'string' && URL.canParse(run.url)

async function prepare({ root, identity }: DataDirPaths): Promise<void> {
  const made = await mkdir(root, { recursive: true, mode: 0o700 })
  if (made !== undefined) return
  const found = await readdir(root)
  await closeToOthers(root, found.length === 0 || found.some((name) => join(root, name) === identity))
}

async function orUnusable<T>(root: string, action: Promise<T>): Promise<T> {
  try {
    return await action
  } catch (cause) {
    if (isPeertuneError(cause)) throw cause
    if (isDiskFull(cause)) throw diskFull(root, 'for what a node writes', reasonOf(cause), cause)
    const message = `dataDir: expected a folder this user can write, got ${root} (${reasonOf(cause)})`
    throw new PeertuneError('config/data-dir-unusable', message, { facts: { dataDir: root }, cause })
  }
}

/** Our own directory is put right; one full of other things (a home, /tmp) is not ours to change. */
async function closeToOthers(root: string, ours: boolean): Promise<void> {
  const mode = (await stat(root)).mode & 0o777
  // Windows has no such bits; its folders below the user's profile are private by inheritance.
  if ((mode & 0o077) === 0 || process.platform === 'win32') return
  if (ours) return chmod(root, 0o700)
  const message = `${root}: expected a folder only its owner can enter (0700), got 0${mode.toString(8)}`
  throw new PeertuneError('config/data-dir-too-open', message, {
    facts: { dataDir: root, mode },
    hint: `chmod 700 ${root}, or name a folder that does not exist yet`
  })
}
