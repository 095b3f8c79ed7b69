import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../../src/base/clock.js'
import { printManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { printYaml } from '../../src/node/host/yaml-file.js'
import { parseOptions } from '../../scripts/testnet/options.js'
import { GLYPH_MODEL, glyphScenario } from '../../scripts/testnet/scenario.js'
import { startLone, statusOf } from './lone-daemon.js'

const RUNS = 5
/** Local steps after which memory is read: every buffer has been used by then. */
const WARM_STEPS = 60
const POLL_MS = 200

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/**
 * Process start to `listening` of one daemon, and the resident memory of node and trainer while the default model
 * trains. One peer alone, no network besides.
 */
export async function run(_argv: readonly string[]): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-bench-'))
  try {
    const config = await writeConfig(folder)
    const starts: number[] = []
    for (let i = 0; i < RUNS; i++) starts.push(await timeStart(folder, config))
    const memory = await measureMemory(folder, config)
    return {
      startMs: starts.map(Math.round),
      medianStartMs: Math.round(median(starts)),
      limitStartMs: 1500,
      startRatio: median(starts) / 1500,
      ...memory,
      limitMb: 350,
      memoryRatio: memory.totalMb / 350
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function writeConfig(folder: string): Promise<string> {
  const options = parseOptions([])
  if (options === 'help') throw new Error('unreachable')
  const scenario = glyphScenario(options, await modelSha256(GLYPH_MODEL))
  const federation = join(folder, 'federation.yaml')
  const config = join(folder, 'node.yaml')
  await writeFile(federation, printManifest(scenario.manifest))
  const node = {
    federation,
    model: GLYPH_MODEL,
    dataDir: join(folder, 'data'),
    data: scenario.dataOfPeer(0),
    training: { ...scenario.training, steps: 1_000_000 },
    device: 'cpu',
    threads: 1,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    http: { port: 0 }
  }
  await writeFile(config, printYaml(node))
  return config
}

async function timeStart(folder: string, config: string): Promise<number> {
  const before = performance.now()
  const node = await startLone(folder, config)
  const elapsed = performance.now() - before
  await node.stop()
  return elapsed
}

async function measureMemory(folder: string, config: string) {
  const node = await startLone(folder, config)
  try {
    for (;;) {
      const status = await statusOf(node)
      if (status.steps.done >= WARM_STEPS && status.trainer.pid !== undefined) {
        const [nodeMb, trainerMb] = await Promise.all([residentMb(node.pid), residentMb(status.trainer.pid)])
        return { nodeMb, trainerMb, totalMb: nodeMb + trainerMb, stepsPerSecond: status.steps.perSecond }
      }
      await systemClock.sleep(POLL_MS)
    }
  } finally {
    await node.stop()
  }
}

/** Resident megabytes of a process: /proc where there is one, ps elsewhere. */
async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined)
  const kilobytes = status?.match(/VmRSS:\s+(\d+)/)?.[1]
  if (kilobytes !== undefined) return Math.round(Number(kilobytes) / 1024)
  const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)])
  return Math.round(Number(stdout) / 1024)
}
