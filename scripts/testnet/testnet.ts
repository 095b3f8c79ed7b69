import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { PeertuneError } from '../../src/base/errors.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { createDirector, type Director, type TimelineEntry } from './director.js'
import type { Disturbances } from './disturbances.js'
import { judge } from './judge.js'
import { createScreen, frame } from './live-table.js'
import type { TestnetOptions } from './options.js'
import { writePeerFiles } from './peer-files.js'
import type { TestnetReport } from './report.js'
import { GLYPH_MODEL, glyphScenario, type Scenario, textScenario } from './scenario.js'
import { createTestnetPeer, type FinishedPeer, type TestnetPeer } from './testnet-peer.js'
import type { Trial } from './trial.js'

const POLL_MS = 500
/** Exchanges between two checkpoints: the last one is written on shutdown anyway. */
const CHECKPOINT_EVERY = 10
/** Where peers are killed: each is to leave one. */
const CHECKPOINT_EVERY_UNDER_FIRE = 2

interface FinishedNetwork {
  readonly finished: readonly FinishedPeer[]
  readonly timeline: readonly TimelineEntry[]
}

/** Runs the whole experiment. Throws `testnet/*` when a peer fails, `testnet/interrupted`, `testnet/timeout`. */
export async function runTestnet(
  options: TestnetOptions,
  disturbances: Disturbances,
  signal: AbortSignal
): Promise<TestnetReport> {
  const startedAt = systemClock.now()
  const scenario = await chooseScenario(options)
  const trial: Trial = { scenario, options, signal }
  const folder = options.keep === undefined ? await mkdtemp(join(tmpdir(), 'peertune-testnet-')) : resolve(options.keep)
  try {
    await mkdir(folder, { recursive: true })
    const every = disturbances.kill === undefined ? CHECKPOINT_EVERY : CHECKPOINT_EVERY_UNDER_FIRE
    const files = await writePeerFiles({ ...trial, folder, checkpointEvery: every })
    const { localSteps } = scenario.manifest.mixing
    const peers = files.map((one, index) => createTestnetPeer(index, one, localSteps))
    const { finished, timeline } = await runNetwork(peers, disturbances, trial)
    const verdicts = await judge(trial, finished)
    return { ...verdicts, timeline, seconds: (systemClock.now() - startedAt) / 1000 }
  } finally {
    if (options.keep === undefined) await rm(folder, { recursive: true, force: true })
  }
}

async function chooseScenario(options: TestnetOptions): Promise<Scenario> {
  if (options.model === undefined) return glyphScenario(options, await modelSha256(GLYPH_MODEL))
  return textScenario(options, await modelSha256(join(resolve(options.model), 'model.onnx')))
}

/** Starts every node, watches until all are done, and stops them; whatever happens, no process is left behind. */
async function runNetwork(
  peers: readonly TestnetPeer[],
  disturbances: Disturbances,
  trial: Trial
): Promise<FinishedNetwork> {
  const founders = peers.filter(({ index }) => !disturbances.late?.peers.includes(index))
  try {
    const director = createDirector({ peers, disturbances, clock: systemClock })
    await founders[0]?.start([])
    const meetingPoint = founders[0]?.addresses().slice(0, 1) ?? []
    await Promise.all(founders.slice(1).map((peer) => peer.start(meetingPoint)))
    await watch({ peers, founders, director }, trial)
    await Promise.all(peers.map((peer) => peer.stop()))
    return { finished: peers.map(finishedPeer), timeline: director.timeline() }
  } finally {
    for (const peer of peers) peer.kill()
  }
}

function finishedPeer(peer: TestnetPeer): FinishedPeer {
  const status = peer.lastStatus()
  if (status === undefined) throw new PeertuneError('testnet/node-died', `node ${peer.index} never said anything`)
  const { index, files } = peer
  const { dataDir, log } = files
  const left = { dataDir, log, crashes: peer.crashes() }
  return { index, status, ...left, statusUrl: peer.statusUrl(), stalls: peer.stalls(), refusals: peer.refusals() }
}

interface Network {
  readonly peers: readonly TestnetPeer[]
  /** Those that start first. */
  readonly founders: readonly TestnetPeer[]
  readonly director: Director
}

/** Polls every status page, draws the table and disturbs by plan, until all peers are done. */
async function watch({ peers, founders, director }: Network, { options, signal }: Trial): Promise<void> {
  const startedAt = systemClock.now()
  const screen = createScreen(process.stdout, systemClock.now)
  for (;;) {
    if (signal.aborted) throw new PeertuneError('testnet/interrupted', 'interrupted')
    const seconds = (systemClock.now() - startedAt) / 1000
    if (seconds * 1000 > options.timeoutMs)
      throw new PeertuneError('testnet/timeout', `not finished after ${seconds} s`)
    await Promise.all(peers.map((peer) => peer.poll()))
    for (const peer of peers) peer.watch(peers, systemClock.now())
    screen.show(
      frame(
        peers.map((peer) => peer.status()),
        seconds
      )
    )
    await director.direct(shareOfSteps(founders))
    if (await director.finished()) {
      const dead = peers.find((peer) => !peer.alive())
      if (dead) throw new PeertuneError('testnet/node-died', `node ${dead.index} ended early: ${await dead.exited()}`)
      if (peers.every((peer) => peer.status()?.phase === 'done')) return screen.done()
    }
    await systemClock.sleep(POLL_MS)
  }
}

/** How far the slowest of the peers that started first has come: the very first trains while the others still start. */
const shareOfSteps = (founders: readonly TestnetPeer[]): number =>
  Math.min(
    ...founders.map((peer) => {
      const steps = peer.lastStatus()?.steps
      return steps === undefined ? 0 : steps.done / steps.total
    })
  )
