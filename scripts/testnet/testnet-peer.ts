import { existsSync } from 'node:fs'
import { cp, rename, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { entryUrl } from '../../src/base/entry.js'
import { dataDirPaths } from '../../src/node/host/data-dir.js'
import type { Status } from '../../src/status/snapshot.js'
import { type NodeProcess, startNode } from './node-process.js'
import { createStallWatch, type Stalls } from './stalls.js'

/** Process start to `listening`: seconds on an idle machine, minutes where ten times as many processes want its cores. */
const START_TIMEOUT_MS = 300_000
/** One status request; a node that trains answers in milliseconds. */
const STATUS_TIMEOUT_MS = 3_000

/** The files of one peer, made before it first starts. */
export interface PeerFiles {
  readonly config: string
  readonly dataDir: string
  readonly log: string
  readonly denyList: string
}

export interface Crash {
  /** The data directory as the crash left it. */
  readonly dataDir: string
  /** Process id of the life that came after; absent where none did. */
  readonly nextPid?: number
}

/** One peer of the testnet through all its lives. */
export interface TestnetPeer {
  readonly index: number
  readonly files: PeerFiles
  /** Starts the peer, or starts it again with what the last life has left on the disk. */
  start(bootstrap: readonly string[]): Promise<void>
  /** SIGKILL, as the kernel or a power cut would; what it left on the disk is kept for the judge. */
  crash(): Promise<void>
  /** The first first. */
  crashes(): readonly Crash[]
  stop(): Promise<void>
  /** For the end of everything: leaves no process behind. */
  kill(): void
  alive(): boolean
  /** Of the last life; absent before the first. */
  pid(): number | undefined
  /** How the last life ended. */
  exited(): Promise<string>
  addresses(): readonly string[]
  statusUrl(): string
  /** Asks for the status and remembers it. */
  poll(): Promise<void>
  /** Absent before the first answer and while the peer is down. */
  status(): Status | undefined
  /** The last answer of any life. */
  lastStatus(): Status | undefined
  /** Looks whether the peer stands still. */
  watch(others: readonly TestnetPeer[], nowMs: number): void
  stalls(): Stalls
  /** Refusals and failures by code, of all lives together. */
  refusals(): readonly Readonly<Record<string, number>>[]
  /** Exactly these peers are turned away from now on. */
  deny(peerIds: readonly string[]): Promise<void>
}

/** What is left of a peer when the experiment is over. */
export interface FinishedPeer {
  readonly index: number
  readonly status: Status
  readonly statusUrl: string
  readonly dataDir: string
  readonly crashes: readonly Crash[]
  /** Of all lives. */
  readonly log: string
  readonly stalls: Stalls
  /** By code, one record for each life. */
  readonly refusals: readonly Readonly<Record<string, number>>[]
}

/** `localSteps`: between two exchanges of the federation. */
export function createTestnetPeer(index: number, files: PeerFiles, localSteps: number): TestnetPeer {
  const stalls = createStallWatch(localSteps)
  /** Last words of the lives before this one. */
  const past: Status[] = []
  /** Process ids of all lives, and after how many of them each crash came. */
  const pids: number[] = []
  const crashes: { readonly dataDir: string; readonly lives: number }[] = []
  const ended = new AbortController()
  let node: NodeProcess | undefined
  let current: Status | undefined
  const alive = () => node?.alive() === true
  return {
    index,
    files,
    alive,
    pid: () => pids.at(-1),
    async start(bootstrap) {
      node = await startNode({
        index,
        cli: fileURLToPath(entryUrl('cli/main.js')),
        config: files.config,
        bootstrap,
        logFile: files.log,
        startTimeoutMs: START_TIMEOUT_MS,
        signal: ended.signal
      })
      pids.push(node.pid)
    },
    async crash() {
      node?.kill()
      await node?.exited
      const left = `${files.dataDir}-crash-${crashes.length}`
      // One that is killed while it loads its model has none yet.
      const { checkpoints } = dataDirPaths(files.dataDir)
      if (existsSync(checkpoints)) await cp(checkpoints, dataDirPaths(left).checkpoints, { recursive: true })
      crashes.push({ dataDir: left, lives: pids.length })
      stalls.down()
      if (current !== undefined) past.push(current)
      current = undefined
    },
    crashes: () =>
      crashes.map(({ dataDir, lives }) => {
        const nextPid = pids[lives]
        return { dataDir, ...(nextPid === undefined ? {} : { nextPid }) }
      }),
    stop: async () => node?.stop(),
    // Also one that is only starting, and one that a scenario would start again.
    kill: () => ended.abort(new Error('the testnet has ended')),
    exited: async () => (await node?.exited) ?? 'never started',
    addresses: () => node?.multiaddrs ?? [],
    statusUrl: () => node?.statusUrl ?? '',
    async poll() {
      if (node !== undefined && alive()) current = (await fetchStatus(node.statusUrl)) ?? current
    },
    status: () => (alive() ? current : undefined),
    lastStatus: () => current ?? past.at(-1),
    watch: (others, nowMs) =>
      stalls.look(
        alive() ? current : undefined,
        others.map((other) => other.status()),
        nowMs
      ),
    stalls: stalls.read,
    refusals: () => [...past, ...(current === undefined ? [] : [current])].map(refusalsOf),
    deny: (peerIds) => replaceFile(files.denyList, peerIds.map((peer) => `${peer}\n`).join(''))
  }
}

const refusalsOf = ({ refusals, exchanges }: Status): Readonly<Record<string, number>> => ({
  ...refusals,
  ...Object.fromEntries(Object.entries(exchanges.failures).map(([code, count]) => [`failed/${code}`, count]))
})

/** Whoever reads the file sees the old list or the new one. */
async function replaceFile(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text)
  await rename(`${file}.new`, file)
}

async function fetchStatus(url: string): Promise<Status | undefined> {
  try {
    const response = await fetch(new URL('status', url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    return response.ok ? ((await response.json()) as Status) : undefined
  } catch {
    return undefined
  }
}
