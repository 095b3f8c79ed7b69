import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { NodeProcess } from '../../scripts/testnet/node-process.js'
import { systemClock } from '../../src/base/clock.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { printYaml } from '../../src/node/host/yaml-file.js'
import { startLone, statusOf } from './lone-daemon.js'
import { writeShape } from '../shapes/write.js'

const LIMIT_MS = 2000
const POLL_MS = 10
/** Steps whose mean is taken for the time of the first. */
const LATER_STEPS = 2
const SENTENCE = 'The quick brown fox jumps over the lazy dog. '

/**
 * `peertune start` to the first training step of a GPT-2-small, a real daemon with a few kilobytes of text. The step
 * begins where it ends less what a later step takes. The model's hash is known from an earlier start, as after a first one.
 */
export async function run(args: readonly string[]): Promise<object> {
  const options = {
    tokenizer: { type: 'string', default: 'test/data/golden/bytelevel/tokenizer.json' },
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '5' }
  } as const
  const { tokenizer, threads, runs } = parseArgs({ args: [...args], options }).values
  const folder = await mkdtemp(join(tmpdir(), 'peertune-first-step-'))
  try {
    const config = await writeConfig(folder, { tokenizer: resolve(tokenizer), threads: Number(threads) })
    const taken: { readonly beginsMs: number; readonly endsMs: number }[] = []
    for (let i = 0; i < Number(runs); i++) {
      await rm(join(folder, 'data'), { recursive: true, force: true })
      taken.push(await timeFirstStep(folder, config))
      console.log(taken.at(-1))
    }
    const begins = taken.map(({ beginsMs }) => beginsMs).toSorted((a, b) => a - b)
    const medianBeginsMs = begins[Math.floor(begins.length / 2)] ?? Number.NaN
    return { runs: taken, medianBeginsMs, limitMs: LIMIT_MS, ratio: medianBeginsMs / LIMIT_MS }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function writeConfig(folder: string, { tokenizer, threads }: { tokenizer: string; threads: number }) {
  const model = await writeShape('gpt2-small', folder)
  const [federation, text, config] = ['federation.yaml', 'text.txt', 'node.yaml'].map((name) => join(folder, name))
  await writeFile(text as string, SENTENCE.repeat(500))
  const manifest = {
    peertune: 1,
    name: 'first-step',
    model: { sha256: await modelSha256(model) },
    task: { kind: 'causal-lm' },
    peft: { method: 'lora', rank: 8, alpha: 16, targets: ['c_attn'], seed: 'bench' }
  }
  await writeFile(federation as string, printYaml(manifest))
  const node = {
    federation,
    model,
    dataDir: join(folder, 'data'),
    data: { kind: 'text', path: text, tokenizer, sequenceLength: 128 },
    training: { steps: 1_000_000, batchSize: 4 },
    device: 'cpu',
    threads,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    http: { port: 0 }
  }
  await writeFile(config as string, printYaml(node))
  return config as string
}

async function timeFirstStep(folder: string, config: string) {
  const started = performance.now()
  const node = await startLone(folder, config)
  try {
    const first = await whenDone(node, 1)
    const later = await whenDone(node, 1 + LATER_STEPS)
    const stepMs = (later - first) / LATER_STEPS
    return { beginsMs: Math.round(first - stepMs - started), endsMs: Math.round(first - started) }
  } finally {
    await node.stop()
  }
}

/** When the status first tells of so many steps. */
async function whenDone(node: NodeProcess, steps: number): Promise<number> {
  for (;;) {
    const status = await statusOf(node)
    if (status.steps.done >= steps) return performance.now()
    await systemClock.sleep(POLL_MS)
  }
}
