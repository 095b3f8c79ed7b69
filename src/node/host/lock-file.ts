import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'

export type LockResult =
  | { readonly ok: true; readonly release: () => Promise<void> }
  /** Held by a process that lives. */
  | { readonly ok: false; readonly pid: number }

interface Holder {
  readonly pid: number
  /** When the process started, in the kernel's ticks, so that a reused pid is not taken for the holder. */
  readonly startedTicks: string | null
}

/** A stale lock is taken over at most this often before giving up to whoever keeps writing new ones. */
const MAX_TAKEOVERS = 3

/**
 * A file that says which process holds a directory. A lock whose process is gone (kill -9, power cut) is taken over:
 * moved away first, which only one of several contenders can do, and put back if it turns out to be a fresh one.
 */
export async function acquireLock(file: string): Promise<LockResult> {
  const mine = JSON.stringify({ pid: process.pid, startedTicks: await startedTicks(process.pid) } satisfies Holder)
  for (let attempt = 0; attempt < MAX_TAKEOVERS; attempt++) {
    if (await createExclusive(file, mine)) return { ok: true, release: () => release(file, mine) }
    const text = await readFile(file, 'utf8').catch(() => undefined)
    if (text === undefined) continue
    const holder = parseHolder(text)
    if (holder !== undefined && (await isAlive(holder))) return { ok: false, pid: holder.pid }
    await takeAway(file, text)
  }
  return { ok: false, pid: parseHolder(await readFile(file, 'utf8').catch(() => ''))?.pid ?? 0 }
}

/** Written first and linked into place then, so that nobody ever reads a lock that is half written. */
async function createExclusive(file: string, content: string): Promise<boolean> {
  const draft = `${file}.${process.pid}.tmp`
  try {
    await writeFile(draft, content, { mode: 0o600 })
    await link(draft, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}

/** Moves the lock aside if it is still the one judged stale; a fresh one goes back to its owner's place. */
async function takeAway(file: string, judged: string): Promise<void> {
  const aside = `${file}.${process.pid}.stale`
  try {
    await rename(file, aside)
  } catch {
    return
  }
  const moved = await readFile(aside, 'utf8')
  if (moved !== judged) await createExclusive(file, moved)
  await rm(aside, { force: true })
}

async function release(file: string, mine: string): Promise<void> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === mine) await rm(file, { force: true })
}

/** `undefined` for a file that a power cut left empty or half written. */
function parseHolder(text: string): Holder | undefined {
  try {
    const { pid, startedTicks } = JSON.parse(text) as Partial<Holder>
    return typeof pid === 'number' && Number.isInteger(pid) && pid > 0
      ? { pid, startedTicks: startedTicks ?? null }
      : undefined
  } catch {
    return undefined
  }
}

async function isAlive({ pid, startedTicks: since }: Holder): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  const now = await startedTicks(pid)
  return since === null || now === null || now === since
}

/** Field 22 of /proc/PID/stat (proc(5)); `null` where there is no such file. The name in field 2 may hold spaces. */
async function startedTicks(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const afterName = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return afterName[19] ?? null
}
