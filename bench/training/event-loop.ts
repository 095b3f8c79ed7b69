import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { silentLogger } from '../../src/base/log.js'
import type { BatchStream } from '../../src/data/batches/batch.js'
import { spawnTrainer } from '../../src/train/process/child-trainer.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'
import { writeShape } from '../shapes/write.js'
import { tokenBatch } from './token-batch.js'

/** Milliseconds that the node's event loop may be held up while it trains, at the 99th percentile. */
const LIMIT_MS = 20
/** Milliseconds between two looks; what the histogram holds is the delay on top. */
const RESOLUTION_MS = 1
const NANOSECONDS = 1e6
const BATCH = { batch: 8, seq: 128, vocabulary: 30522 }

/**
 * How long the event loop of a node is held up while its trainer child trains BERT-base with LoRA on every query and
 * value: the optimiser over all parameters and the copies to and from the pipe are what the node itself does.
 */
export async function run(args: readonly string[]): Promise<object> {
  const options = {
    steps: { type: 'string', default: '12' },
    threads: { type: 'string', default: '1' },
    targets: { type: 'string', default: 'query,value' }
  } as const
  const { values } = parseArgs({ args: [...args], options })
  const folder = await mkdtemp(join(tmpdir(), 'peertune-event-loop-'))
  try {
    return await measure(await writeShape('bert-base', folder), {
      steps: Number(values.steps),
      threads: Number(values.threads),
      targets: values.targets.split(',')
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface Settings {
  readonly steps: number
  readonly threads: number
  readonly targets: readonly string[]
}

async function measure(modelPath: string, { steps, threads, targets }: Settings) {
  const task = { kind: 'sequence-classification', labels: ['no', 'yes'] } as const
  const trainer = await spawnTrainer({
    entry: entryUrl('node/model/trainer-main.js'),
    clock: systemClock,
    log: silentLogger,
    spec: {
      modelPath,
      task,
      peft: { method: 'lora', rank: 8, alpha: 16, targets, head: ['classifier'], seed: 'bench' },
      device: 'cpu',
      threads
    }
  })
  const { initial, inputs } = trainer.description
  const batch = tokenBatch({ task, ...BATCH }, inputs)
  const batches: BatchStream = { next: () => batch, cursor: () => ({ epoch: 0, position: 0 }) }
  const schedule = { kind: 'constant' } as const
  const optimiser = createLocalOptimiser({
    trainer,
    batches,
    parameters: initial.slice(),
    options: { learningRate: 1e-4, schedule }
  })
  await optimiser.step()
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  const start = performance.now()
  for (let i = 0; i < steps; i++) await optimiser.step()
  const elapsedMs = performance.now() - start
  delay.disable()
  await trainer.close()
  const p99Ms = delay.percentile(99) / NANOSECONDS
  return {
    model: 'bert-base',
    parameters: initial.length,
    steps,
    stepMs: Math.round(elapsedMs / steps),
    looks: delay.count,
    p50Ms: delay.percentile(50) / NANOSECONDS,
    p99Ms,
    maxMs: delay.max / NANOSECONDS,
    limitMs: LIMIT_MS,
    ratio: p99Ms / LIMIT_MS
  }
}
