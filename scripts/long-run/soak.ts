import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../../src/base/clock.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { explain } from '../testnet/explain.js'
import { onInterrupt } from '../testnet/on-interrupt.js'
import { parseOptions } from '../testnet/options.js'
import { writePeerFiles } from '../testnet/peer-files.js'
import { GLYPH_MODEL, glyphScenario } from '../testnet/scenario.js'
import { createTestnetPeer, type TestnetPeer } from '../testnet/testnet-peer.js'
import { judgeSoak, type Sample } from './soak-verdict.js'
import type { Outcome, Step } from './step.js'

const MINUTES = 6
const SAMPLE_MS = 2_000
/** More steps than there is time for, and an exchange every few of them: what is kept of an exchange would show. */
const FLAGS = ['--peers', '3', '--steps', '10000000', '--batch-size', '4', '--local-steps', '2']
/** Exchanges between two checkpoints, so that hundreds are written. */
const CHECKPOINT_EVERY = 5

export const soak: Step = {
  name: 'soak',
  what: `three real nodes that exchange without a pause for ${MINUTES} minutes: memory stays where it is, and so does the pace`,
  command: 'npm run test:long -- --only soak',
  run: runSoak
}

async function runSoak(): Promise<Outcome> {
  const options = parseOptions(FLAGS)
  if (options === 'help') return { facts: {}, complaints: [] }
  const folder = await mkdtemp(join(tmpdir(), 'peertune-soak-'))
  const scenario = glyphScenario(options, await modelSha256(GLYPH_MODEL))
  const files = await writePeerFiles({ folder, scenario, options, checkpointEvery: CHECKPOINT_EVERY })
  const peers = files.map((one, index) => createTestnetPeer(index, one, scenario.manifest.mixing.localSteps))
  const killAll = () => {
    for (const peer of peers) peer.kill()
  }
  const over = onInterrupt(killAll)
  try {
    const samples = await sampleAll(peers)
    await Promise.all(peers.map((peer) => peer.stop()))
    const unexplained = explain(peers.flatMap((peer) => peer.refusals())).flatMap(({ code, reason }) =>
      reason === undefined ? [`refused or failed without a known reason: ${code}`] : []
    )
    const { facts, complaints } = judgeSoak(samples)
    return { facts, complaints: [...complaints, ...unexplained] }
  } finally {
    killAll()
    over()
    await rm(folder, { recursive: true, force: true })
  }
}

/** By peer, what was seen of it every few seconds. */
async function sampleAll(peers: readonly TestnetPeer[]): Promise<readonly (readonly Sample[])[]> {
  const [first, ...others] = peers
  await first?.start([])
  await Promise.all(others.map((peer) => peer.start(first?.addresses() ?? [])))
  const samples: Sample[][] = peers.map(() => [])
  const startedAt = systemClock.now()
  for (let now = startedAt; now < startedAt + MINUTES * 60_000; now = systemClock.now()) {
    await Promise.all(peers.map((peer) => peer.poll()))
    for (const [i, peer] of peers.entries()) {
      const sample = await sampleOf(peer, (now - startedAt) / 1000)
      if (sample !== undefined) samples[i]?.push(sample)
    }
    await systemClock.sleep(SAMPLE_MS)
  }
  return samples
}

async function sampleOf(peer: TestnetPeer, seconds: number): Promise<Sample | undefined> {
  const status = peer.status()
  if (status?.trainer.pid === undefined) return undefined
  const [nodeMb, trainerMb] = await Promise.all([residentMb(peer.pid()), residentMb(status.trainer.pid)])
  if (nodeMb === undefined || trainerMb === undefined) return undefined
  return { seconds, nodeMb, trainerMb, exchanges: status.exchanges.completed, restarts: status.trainer.restarts }
}

/** Resident megabytes of a process; absent where it is gone. */
async function residentMb(pid: number | undefined): Promise<number | undefined> {
  if (pid === undefined) return undefined
  const kilobytes = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)]).then(
    ({ stdout }) => Number(stdout),
    () => Number.NaN
  )
  return Number.isFinite(kilobytes) ? kilobytes / 1024 : undefined
}
