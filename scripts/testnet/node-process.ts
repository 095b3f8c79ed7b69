import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { PeertuneError } from '../../src/base/errors.js'

/** Lines of stderr kept for the message when a node dies. */
const KEPT_LOG_LINES = 12
/** Time a node gets to checkpoint and leave before it is killed. */
const STOP_GRACE_MS = 10_000

export interface NodeProcess {
  readonly index: number
  readonly pid: number
  readonly multiaddrs: readonly string[]
  readonly statusUrl: string
  /** Resolves when the process has ended, with its exit code or signal. */
  readonly exited: Promise<string>
  alive(): boolean
  stop(): Promise<void>
  kill(): void
}

export interface NodeProcessOptions {
  readonly index: number
  /** Path of the built command line, dist/src/cli/main.js. */
  readonly cli: string
  readonly config: string
  readonly bootstrap: readonly string[]
  readonly logFile: string
  readonly startTimeoutMs: number
  /** Where and with what it runs; this process's own by default. */
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Kills the process, whether or not it has started yet. */
  readonly signal?: AbortSignal
}

/** Starts `peertune start` and waits until it says where it listens. Throws `testnet/node-did-not-start`. */
export async function startNode(options: NodeProcessOptions): Promise<NodeProcess> {
  options.signal?.throwIfAborted()
  const bootstrap = options.bootstrap.flatMap((address) => ['--bootstrap', address])
  const child = spawn(process.execPath, [options.cli, 'start', '--config', options.config, ...bootstrap], {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env })
  })
  options.signal?.addEventListener('abort', () => child.kill('SIGKILL'), { once: true })
  const lastLines = keepLog(child, options.logFile)
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  const started = await readAnnouncedAddresses(child, options.startTimeoutMs, exited)
  if (started === undefined) {
    child.kill('SIGKILL')
    throw new PeertuneError(
      'testnet/node-did-not-start',
      `node ${options.index} did not start:\n${lastLines().join('\n')}`
    )
  }
  return { index: options.index, pid: child.pid as number, ...started, exited, ...controls(child, exited) }
}

function controls(child: ChildProcess, exited: Promise<string>) {
  const alive = () => child.exitCode === null && child.signalCode === null
  return {
    alive,
    kill: () => void child.kill('SIGKILL'),
    stop: async () => {
      if (!alive()) return
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS)
      await exited
      clearTimeout(timer)
    }
  }
}

function keepLog(child: ChildProcess, path: string): () => readonly string[] {
  const file = createWriteStream(path, { flags: 'a' })
  const kept: string[] = []
  // A log that cannot be written is no reason for the network to end.
  file.on('error', (error) => kept.push(`(nothing more is written to ${path}: ${error.message})`))
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      file.write(`${line}\n`)
      kept.push(line)
      if (kept.length > KEPT_LOG_LINES) kept.shift()
    })
  }
  child.once('close', () => file.end())
  return () => kept
}

/** `listening <multiaddr>` lines, then `status <url>`: the contract of `peertune start` with scripts. */
async function readAnnouncedAddresses(child: ChildProcess, timeoutMs: number, exited: Promise<string>) {
  const multiaddrs: string[] = []
  const found = new Promise<{ multiaddrs: string[]; statusUrl: string }>((resolve) => {
    if (!child.stdout) return
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [word, value] = line.split(' ')
      if (word === 'listening' && value !== undefined) multiaddrs.push(value)
      if (word === 'status' && value !== undefined) resolve({ multiaddrs, statusUrl: value })
    })
  })
  const timeout = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => timeout.resolve(undefined), timeoutMs)
  try {
    return await Promise.race([found, exited.then(() => undefined), timeout.promise])
  } finally {
    clearTimeout(timer)
  }
}
