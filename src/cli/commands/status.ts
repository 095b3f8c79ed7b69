import { resolve } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { type Environment, defaultDataDir, resolveConfig } from '../../node/config/config.js'
import { readRunFile } from '../../node/host/data-dir.js'
import type { Status } from '../../status/snapshot.js'
import type { Output } from '../output.js'
import { statusText } from '../status-text.js'

export interface StatusOptions {
  readonly url?: string
  readonly dataDir?: string
  readonly config?: string
  readonly json?: boolean
}

/** Milliseconds a daemon gets to answer. */
const ANSWER_TIMEOUT_MS = 5_000

/** Asks a running daemon how it is. Throws `cli/no-daemon` and `cli/no-answer`. */
export async function status(options: StatusOptions, env: Environment, out: Output): Promise<void> {
  const url = options.url ?? (await announcedUrl(options, env))
  const answer = await ask(url)
  if (options.json) out.json(answer)
  else for (const line of statusText(answer)) out.line(line)
}

async function announcedUrl({ config, dataDir }: StatusOptions, env: Environment): Promise<string> {
  const folder = await dataDirOf(config, dataDir, env)
  const run = await readRunFile(folder)
  if (run !== undefined) return run.url
  throw new PeertuneError(
    'cli/no-daemon',
    `${folder}: expected a running daemon's data directory, none has announced itself there`,
    {
      facts: { dataDir: folder },
      hint: 'name it with --data-dir, --config or --url'
    }
  )
}

async function dataDirOf(config: string | undefined, dataDir: string | undefined, env: Environment): Promise<string> {
  if (dataDir !== undefined) return resolve(dataDir)
  return config === undefined ? defaultDataDir(env) : (await resolveConfig(config, {}, env)).config.dataDir
}

async function ask(base: string): Promise<Status> {
  if (!URL.canParse('status', base))
    throw new PeertuneError(
      'config/wrong-url',
      `--url: expected an address such as http://127.0.0.1:7440/, got ${base}`
    )
  const url = new URL('status', base)
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS), redirect: 'error' })
    if (!answer.ok) throw new Error(`HTTP status ${answer.status}`)
    const status = (await answer.json()) as Partial<Status>
    if (typeof status.peerId !== 'string' || status.steps === undefined) throw new Error('something else than a status')
    return status as Status
  } catch (cause) {
    throw new PeertuneError('cli/no-answer', `${url.href}: expected a status, got ${networkReason(cause)}`, {
      facts: { url: url.href },
      hint: 'the daemon may have ended without taking its announcement back; start it again',
      cause
    })
  }
}

/** fetch says only "fetch failed"; why is in its cause. */
function networkReason(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (!(inner instanceof Error)) return String(inner)
  if ('code' in inner && inner.code === 'ECONNREFUSED') return 'no answer (connection refused)'
  return inner.name === 'TimeoutError' ? `no answer in ${ANSWER_TIMEOUT_MS / 1000} s` : inner.message
}
