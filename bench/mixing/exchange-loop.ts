import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { type FederationManifest, federationHash, type MixingCodec } from '../../src/base/federation.js'
import { silentLogger } from '../../src/base/log.js'
import { seededRng } from '../../src/base/rng.js'
import { createFileExchangeLog } from '../../src/checkpoint/file-exchange-log.js'
import { defaultGamma } from '../../src/codec/registry.js'
import { createMemoryNetwork, type MemoryNetwork } from '../../src/gossip/memory/memory.js'
import { createExchangeDriver } from '../../src/node/pairwise/driver.js'
import { startExchangeTasks, taskConfig } from '../../src/node/pairwise/tasks.js'
import { addInto } from '../../src/tensor/linear.js'
import { createSchema, type ParameterSchema } from '../../src/tensor/schema.js'
import { wholeFlag } from '../flags.js'

/** Milliseconds that exchanges may hold up the event loop. */
const LIMIT_MS = 20
const RANK = 8
const SIDE = 1024

/** LoRA of rank 8 on so many matrices of 1024 x 1024 as give about `parameters`. */
const schemaOf = (parameters: number): ParameterSchema =>
  createSchema(
    Array.from({ length: Math.max(1, Math.round(parameters / (2 * RANK * SIDE))) }, (_, layer) => [
      { name: `layers.${layer}.lora_A.weight`, shape: [RANK, SIDE] },
      { name: `layers.${layer}.lora_B.weight`, shape: [SIDE, RANK] }
    ]).flat()
  )

const manifestOf = (codec: MixingCodec, fraction: number | undefined): FederationManifest => ({
  peertune: 1,
  name: 'loop',
  model: { sha256: '0'.repeat(64) },
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: RANK, alpha: 2 * RANK, targets: ['q_proj'], head: [], seed: 'bench' },
  mixing: {
    localSteps: 10,
    codec,
    gamma: defaultGamma(codec, fraction),
    clip: 1,
    settleExchanges: 1,
    isolationFactor: 10,
    ...(fraction === undefined ? {} : { fraction })
  }
})

function randomVector(size: number, ...seed: (string | number)[]): Float32Array {
  const rng = seededRng('loop', ...seed)
  return Float32Array.from({ length: size }, () => rng.uniform() - 0.5)
}

interface Case {
  readonly codec: MixingCodec
  readonly fraction?: number
  readonly parameters: number
  /** Arithmetic on a thread of its own, or on the event loop. */
  readonly offload: boolean
}

async function member(name: string, network: MemoryNetwork, folder: string, one: Case) {
  const schema = schemaOf(one.parameters)
  const manifest = manifestOf(one.codec, one.fraction)
  const reference = randomVector(schema.size, 'start')
  const live = reference.slice()
  addInto(randomVector(schema.size, name), live)
  const federation = federationHash(manifest)
  const init = { config: { self: name, federation, weight: 100, incarnation: name, reference }, manifest, schema }
  const identity = { federationHash: federation, schemaHash: schema.hash, size: schema.size }
  const exchangeLog = createFileExchangeLog({ directory: join(folder, name), identity, log: silentLogger })
  await exchangeLog.load(0)
  const transport = network.join({ name })
  await transport.start()
  const driver = createExchangeDriver(
    {
      transport,
      clock: systemClock,
      holder: { parameters: () => live, add: (increment) => addInto(increment, live) },
      phase: () => 'training',
      exchangeLog,
      ...(one.offload && { tasks: startExchangeTasks(entryUrl('node/pairwise/tasks-main.js'), init) })
    },
    { config: taskConfig(init), helloBurst: 1e6 }
  )
  driver.start()
  return { driver, close: () => driver.stop().then(() => exchangeLog.close()) }
}

interface Hold {
  /** Between two turns of the event loop, whatever else the machine did. */
  readonly wallMs: number
  /** Of it, what this thread spent on the processor: what is left on a machine with nothing else to do. */
  readonly cpuMs: number
}

const NANOSECONDS = 1e6

/** Milliseconds on the processor of the thread that asks, to about 4 ms; Linux only, elsewhere 0. */
function threadCpuMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]) / NANOSECONDS
  } catch {
    return 0
  }
}

/** The longest that the event loop was away while `work` went on. */
async function longestHold(work: () => Promise<unknown>): Promise<Hold> {
  let ended = false
  let wallMs = 0
  let cpuMs = 0
  let last = performance.now()
  let lastCpu = threadCpuMs()
  const probe = (async () => {
    while (!ended) {
      await new Promise(setImmediate)
      const now = performance.now()
      const cpu = threadCpuMs()
      wallMs = Math.max(wallMs, now - last)
      cpuMs = Math.max(cpuMs, cpu - lastCpu)
      last = now
      lastCpu = cpu
    }
  })()
  await work()
  ended = true
  await probe
  return { wallMs, cpuMs }
}

const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))] ?? 0

async function measure(one: Case, exchanges: number) {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-loop-'))
  const network = createMemoryNetwork({ seed: 'loop', clock: systemClock })
  try {
    const [a, b] = [await member('a', network, folder, one), await member('b', network, folder, one)]
    await network.connectAll()
    await a.driver.exchangeWith('b')
    const holds: Hold[] = []
    const idle: Hold[] = []
    let spentMs = 0
    for (let turn = 0; turn < exchanges; turn++) {
      const startMs = performance.now()
      holds.push(await longestHold(() => (turn % 2 === 0 ? a.driver.exchangeWith('b') : b.driver.exchangeWith('a'))))
      const lastedMs = performance.now() - startMs
      spentMs += lastedMs
      // As long again with nothing to do: what the machine itself does to the loop.
      idle.push(await longestHold(() => systemClock.sleep(lastedMs)))
    }
    await Promise.all([a.close(), b.close()])
    const { committed } = a.driver.stats()
    return {
      ...one,
      exchanges,
      committed,
      exchangeMs: spentMs / exchanges,
      holdMs: summary(holds),
      idleMs: summary(idle)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const summary = (holds: readonly Hold[]) => {
  const wall = holds.map(({ wallMs }) => wallMs)
  const cpu = holds.map(({ cpuMs }) => cpuMs)
  return {
    median: quantile(wall, 0.5),
    max: Math.max(...wall),
    cpuMedian: quantile(cpu, 0.5),
    cpuMax: Math.max(...cpu)
  }
}

/**
 * `npm run bench -- exchange-loop [--exchanges N] [--parameters N] [--json]`: whole exchanges of two nodes in one process,
 * their exchange logs on the disk, clipping on; how long the event loop was held up at a time.
 */
export async function run(args: readonly string[]): Promise<object> {
  const exchanges = wholeFlag(args, '--exchanges', 9)
  const only = wholeFlag(args, '--parameters', 0)
  const sizes = only > 0 ? [only] : [1_048_576, 4_194_304, 20_971_520]
  const cases = sizes.flatMap((parameters): readonly Case[] => [
    { codec: 'int8', parameters, offload: false },
    { codec: 'int8', parameters, offload: true },
    { codec: 'topk-edge', fraction: 0.01, parameters, offload: true }
  ])
  const rows: Awaited<ReturnType<typeof measure>>[] = []
  for (const one of cases) {
    const row = await measure(one, exchanges)
    rows.push(row)
    const { holdMs, idleMs } = row
    console.log(
      `${one.codec.padEnd(10)} ${String(one.parameters).padStart(9)} parameters, ${one.offload ? 'own thread' : 'event loop'}: ` +
        `${row.exchangeMs.toFixed(0)} ms an exchange; the loop away for ${holdMs.median.toFixed(1)} ms at a time (median of ` +
        `the longest), ${holdMs.max.toFixed(1)} at most; on the processor ${holdMs.cpuMedian.toFixed(1)} and ` +
        `${holdMs.cpuMax.toFixed(1)}; with nothing to do ${idleMs.median.toFixed(1)} and ${idleMs.max.toFixed(1)}`
    )
  }
  return { limitMs: LIMIT_MS, rows }
}
