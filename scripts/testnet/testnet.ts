import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { PeertuneError } from '../../src/base/errors.js'
import { printManifest } from '../../src/node/manifest.js'
import { modelSha256 } from '../../src/node/model-hash.js'
import { printYaml } from '../../src/node/yaml-file.js'
import type { Status } from '../../src/status/snapshot.js'
import { fileURLToPath } from 'node:url'
import { createScreen, frame } from './live-table.js'
import { type NodeProcess, startNode } from './node-process.js'
import type { TestnetOptions } from './options.js'
import type { TestnetReport } from './report.js'
import { GLYPH_MODEL, glyphScenario, type Scenario, textScenario } from './scenario.js'
import { judge } from './judge.js'

/** Process start to `listening`, with eight starting at once on two cores. */
const START_TIMEOUT_MS = 60_000
const POLL_MS = 500
/** One status request; a node that trains answers in milliseconds. */
const STATUS_TIMEOUT_MS = 3_000
/** Exchanges between two checkpoints: the last one is written on shutdown anyway. */
const CHECKPOINT_EVERY = 10

export interface FinishedPeer {
  readonly index: number
  readonly status: Status
  readonly statusUrl: string
  readonly dataDir: string
}

/** Runs the whole experiment. Throws `testnet/*` when a peer fails, `testnet/interrupted`, `testnet/timeout`. */
export async function runTestnet(options: TestnetOptions, signal: AbortSignal): Promise<TestnetReport> {
  const startedAt = systemClock.now()
  const scenario = await chooseScenario(options)
  const folder = options.keep === undefined ? await mkdtemp(join(tmpdir(), 'peertune-testnet-')) : resolve(options.keep)
  try {
    await mkdir(folder, { recursive: true })
    const configs = await writeConfigs(folder, scenario, options)
    const finished = await runNetwork(configs, folder, options, signal)
    const verdicts = await judge(scenario, finished, options, signal)
    return { ...verdicts, seconds: (systemClock.now() - startedAt) / 1000 }
  } finally {
    if (options.keep === undefined) await rm(folder, { recursive: true, force: true })
  }
}

async function chooseScenario(options: TestnetOptions): Promise<Scenario> {
  if (options.model === undefined) return glyphScenario(options, await modelSha256(GLYPH_MODEL))
  return textScenario(options, await modelSha256(join(resolve(options.model), 'model.onnx')))
}

interface PeerFiles {
  readonly config: string
  readonly dataDir: string
}

/** The federation file once, and for every peer the config a person would write. */
async function writeConfigs(folder: string, scenario: Scenario, options: TestnetOptions): Promise<PeerFiles[]> {
  const federation = join(folder, 'federation.yaml')
  await writeFile(federation, printManifest(scenario.manifest))
  return Promise.all(
    Array.from({ length: options.peers }, async (_, peer) => {
      const dataDir = join(folder, `peer-${peer}`)
      const config = join(folder, `peer-${peer}.yaml`)
      const { steps, batchSize, learningRate, weightDecay } = scenario.training
      await writeFile(
        config,
        printYaml({
          federation,
          model: scenario.trainer.modelPath,
          dataDir,
          label: `peer ${peer}`,
          data: scenario.dataOfPeer(peer),
          training: { steps, batchSize, learningRate, weightDecay, seed: `${options.seed}/${peer}` },
          device: 'cpu',
          threads: 1,
          listen: ['/ip4/127.0.0.1/tcp/0'],
          http: { port: 0 },
          checkpointEvery: CHECKPOINT_EVERY
        })
      )
      return { config, dataDir }
    })
  )
}

/** Starts every node, watches until all are done, and stops them; whatever happens, no process is left behind. */
async function runNetwork(
  files: readonly PeerFiles[],
  folder: string,
  options: TestnetOptions,
  signal: AbortSignal
): Promise<FinishedPeer[]> {
  const nodes: NodeProcess[] = []
  try {
    const start = async (index: number, bootstrap: readonly string[]) => {
      const node = await startNode({
        index,
        cli: fileURLToPath(entryUrl('cli/main.js')),
        config: files[index]?.config ?? '',
        bootstrap,
        logFile: join(folder, `peer-${index}.log`),
        startTimeoutMs: START_TIMEOUT_MS
      })
      nodes.push(node)
      return node
    }
    const first = await start(0, [])
    const meetingPoint = first.multiaddrs.slice(0, 1)
    await Promise.all(files.slice(1).map((_, i) => start(i + 1, meetingPoint)))
    nodes.sort((a, b) => a.index - b.index)
    const statuses = await watch(nodes, options, signal)
    await Promise.all(nodes.map((node) => node.stop()))
    return statuses.map((status, index) => ({
      index,
      status,
      statusUrl: nodes[index]?.statusUrl ?? '',
      dataDir: files[index]?.dataDir ?? ''
    }))
  } finally {
    for (const node of nodes) if (node.alive()) node.kill()
  }
}

/** Polls every status page and draws the table until all peers are done. */
async function watch(nodes: readonly NodeProcess[], options: TestnetOptions, signal: AbortSignal): Promise<Status[]> {
  const startedAt = systemClock.now()
  const screen = createScreen(process.stdout, systemClock.now)
  for (;;) {
    if (signal.aborted) throw new PeertuneError('testnet/interrupted', 'interrupted')
    const dead = nodes.find((node) => !node.alive())
    if (dead) throw new PeertuneError('testnet/node-died', `node ${dead.index} ended early: ${await dead.exited}`)
    const seconds = (systemClock.now() - startedAt) / 1000
    if (seconds * 1000 > options.timeoutMs)
      throw new PeertuneError('testnet/timeout', `not finished after ${seconds} s`)
    const statuses = await Promise.all(nodes.map((node) => fetchStatus(node.statusUrl)))
    screen.show(frame(statuses, seconds))
    if (statuses.every((status) => status?.phase === 'done')) {
      screen.done()
      return statuses.filter((status) => status !== undefined)
    }
    await systemClock.sleep(POLL_MS)
  }
}

async function fetchStatus(url: string): Promise<Status | undefined> {
  try {
    const response = await fetch(new URL('status', url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    return response.ok ? ((await response.json()) as Status) : undefined
  } catch {
    return undefined
  }
}
