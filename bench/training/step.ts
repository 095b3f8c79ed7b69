import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { PeftSpec, TaskSpec } from '../../src/base/federation.js'
import { quantiseModel } from '../../src/node/model/quantise-model.js'
import { type ShapeName, writeShape } from '../shapes/write.js'
import type { Arithmetic } from '../../src/train/trainer.js'
import type { GemmRate, StepSpec, StepTime } from './step-worker.js'

/** Pairs of steps, one of each side in turn. */
const DEFAULT_PAIRS = 7

/** What is trained on each shape where the command line does not say. */
interface Defaults {
  readonly task: TaskSpec
  readonly targets: readonly string[]
  readonly head: readonly string[]
  readonly batch: number
  readonly seq: number
  readonly vocabulary: number
}

const ALL_LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const LANGUAGE = { task: { kind: 'causal-lm' }, head: [], seq: 128 } as const
const DEFAULTS: Readonly<Record<ShapeName | 'stories260k', Defaults>> = {
  'bert-base': {
    task: { kind: 'sequence-classification', labels: ['no', 'yes'] },
    targets: ['query', 'value'],
    head: ['classifier'],
    batch: 8,
    seq: 128,
    vocabulary: 30522
  },
  'gpt2-small': { ...LANGUAGE, targets: ['c_attn'], batch: 4, vocabulary: 50257 },
  'llama-mini': { ...LANGUAGE, targets: ALL_LINEARS, batch: 8, vocabulary: 4096 },
  'llama-1b': { ...LANGUAGE, targets: ['q_proj', 'v_proj'], batch: 1, seq: 256, vocabulary: 32000 },
  stories260k: { ...LANGUAGE, targets: ALL_LINEARS, batch: 16, vocabulary: 512 }
}

const OPTIONS = {
  model: { type: 'string' },
  shape: { type: 'string', default: 'bert-base' },
  batch: { type: 'string' },
  seq: { type: 'string' },
  threads: { type: 'string', default: '1' },
  pairs: { type: 'string', default: String(DEFAULT_PAIRS) },
  targets: { type: 'string' },
  /** Adapters in the top so many layers only. */
  top: { type: 'string' },
  layers: { type: 'string', default: '12' },
  'memory-mb': { type: 'string' },
  'cache-mb': { type: 'string' },
  'micro-batch': { type: 'string' },
  /** `float32` or `int8`; see src/onnx/int8/products.ts. */
  arithmetic: { type: 'string', default: 'float32' },
  /** 4 or 8: linear layers in so many bits, as `peertune quantize` makes them. */
  bits: { type: 'string' },
  python: { type: 'string' }
} as const

/**
 * One training step (forward, backward, AdamW) of the same model, batch and adapters here and, with `--python PATH`, in
 * PyTorch with PEFT, in turn, each side in a process of its own with the same number of threads.
 *
 * `gemmShare`: the time the step's matrix products would take at the peak rate of the runtime's own Gemm, measured in
 * between, over the step's time. `floorRatio`: the same over PyTorch's step, the ratio of a float32 step that did nothing
 * else; `torchGemmGflops` says how fast PyTorch's own products are on this processor. Times are medians of wall time; the CPU fields hold against other work on the machine.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const folder = await mkdtemp(join(tmpdir(), 'peertune-step-'))
  try {
    const spec = await specFrom(values, folder)
    return await compare(spec, { pairs: Number(values.pairs), python: values.python, bits: values.bits })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values']
type NamedSpec = StepSpec & { readonly shape: string; readonly targets: readonly string[] }

async function specFrom(values: Values, folder: string): Promise<NamedSpec> {
  const shape = values.model === undefined ? values.shape : 'stories260k'
  if (!(shape in DEFAULTS)) throw new Error(`--shape: one of ${Object.keys(DEFAULTS).join(', ')}`)
  if (shape === 'stories260k' && values.model === undefined)
    throw new Error('--shape stories260k: give its folder with --model')
  const { task, targets, head, batch, seq, vocabulary } = DEFAULTS[shape as keyof typeof DEFAULTS]
  const modules = values.targets?.split(',') ?? targets
  const adapted = values.top === undefined ? modules : topLayers(modules, Number(values.layers), Number(values.top))
  const peft: PeftSpec = { method: 'lora', rank: 8, alpha: 16, targets: adapted, head, seed: 'bench' }
  return {
    shape,
    targets: adapted,
    modelPath: await modelPath(values, shape, folder),
    task,
    peft,
    batch: Number(values.batch ?? batch),
    seq: Number(values.seq ?? seq),
    vocabulary: await vocabularyOf(values.model, vocabulary),
    threads: Number(values.threads),
    arithmetic: values.arithmetic as Arithmetic,
    ...(values['memory-mb'] === undefined ? {} : { memoryMb: Number(values['memory-mb']) }),
    ...(values['micro-batch'] === undefined ? {} : { microBatch: Number(values['micro-batch']) }),
    ...(values['cache-mb'] === undefined ? {} : { activationCacheMb: Number(values['cache-mb']) })
  }
}

async function modelPath({ model, bits }: Values, shape: string, folder: string): Promise<string> {
  const path = model === undefined ? await writeShape(shape as ShapeName, folder) : join(model, 'model.onnx')
  if (bits === undefined) return path
  const out = join(folder, `int${bits}.onnx`)
  await quantiseModel(path, { bits: bits === '4' ? 4 : 8, out, weightsDir: folder })
  return out
}

/** `query` -> `11.attention.self.query` and so on: module names as PEFT and peertune both match them. */
const topLayers = (modules: readonly string[], layers: number, top: number): string[] =>
  modules.flatMap((module) =>
    Array.from({ length: top }, (_, i) => `${layers - 1 - i}.${MODULE_PATH[module] ?? ''}${module}`)
  )

/** Where a module lies inside its layer. */
const MODULE_PATH: Readonly<Record<string, string>> = {
  query: 'attention.self.',
  key: 'attention.self.',
  value: 'attention.self.',
  c_attn: 'attn.',
  q_proj: 'self_attn.',
  v_proj: 'self_attn.'
}

async function vocabularyOf(model: string | undefined, fallback: number): Promise<number> {
  if (model === undefined) return fallback
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8')) as { vocab_size?: number }
  return config.vocab_size ?? fallback
}

/** One side: its first step is done when it opens. */
interface Side {
  readonly firstStepMs: number
  readonly loss: number
  readonly parameters: number
  ask<T>(command: string): Promise<T>
  close(): Promise<void>
}

async function openSide(command: string, args: readonly string[]): Promise<Side> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const read = async <T>(): Promise<T> => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`${command} ended without an answer`)
    return JSON.parse(value) as T
  }
  const { firstStepMs, loss, parameters } = await read<Pick<Side, 'firstStepMs' | 'loss' | 'parameters'>>()
  return {
    firstStepMs,
    loss,
    parameters,
    ask(line) {
      child.stdin.write(`${line}\n`)
      return read()
    },
    async close() {
      child.stdin.end('quit\n')
      await exited
    }
  }
}

interface Pair {
  readonly ours: StepTime
  readonly torch: StepTime | undefined
  readonly gemm: GemmRate
  /** Of torch's own products at the same shapes. */
  readonly torchGemm: { readonly perWallMs: number } | undefined
}

interface Settings {
  readonly pairs: number
  readonly python: string | undefined
  readonly bits: string | undefined
}

async function compare(spec: NamedSpec, { pairs, python, bits }: Settings) {
  const json = JSON.stringify(spec)
  const worker = fileURLToPath(new URL('step-worker.js', import.meta.url))
  const script = fileURLToPath(new URL('../../../bench/training/step_torch.py', import.meta.url))
  const ours = await openSide(process.execPath, [worker, json])
  const peak = await ours.ask<{ peakMb: number }>('step').then(() => ours.ask<{ peakMb: number }>('peak'))
  const torch = python === undefined ? undefined : await openSide(python, [script, json])
  const taken: Pair[] = []
  for (let i = 0; i < pairs; i++) {
    const [oursTime, torchTime] = [await ours.ask<StepTime>('step'), await torch?.ask<StepTime>('step')]
    const gemm = await ours.ask<GemmRate>('gemm')
    const torchGemm = await torch?.ask<{ perWallMs: number }>(`gemm ${JSON.stringify(gemm.shapes)}`)
    taken.push({ ours: oursTime, torch: torchTime, gemm, torchGemm })
    console.error(JSON.stringify(taken.at(-1)))
  }
  const torchPeak = await torch?.ask<{ peakMb: number }>('peak')
  const facts = {
    model: spec.shape,
    batch: spec.batch,
    seq: spec.seq,
    threads: spec.threads,
    targets: spec.targets,
    parameters: ours.parameters,
    torchParameters: torch?.parameters ?? null,
    arithmetic: spec.arithmetic ?? 'float32',
    bits: bits ?? null,
    firstStepMs: Math.round(ours.firstStepMs)
  }
  await ours.close()
  await torch?.close()
  return { ...facts, ...summary(taken), oursPeakMb: round(peak.peakMb), torchPeakMb: round(torchPeak?.peakMb) }
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

const round = (value: number | undefined, digits = 0): number | null =>
  value === undefined || Number.isNaN(value) ? null : Math.round(value * 10 ** digits) / 10 ** digits

function summary(pairs: readonly Pair[]) {
  const ratios = (of: (time: StepTime) => number): number[] =>
    pairs.flatMap(({ ours, torch }) => (torch === undefined ? [] : of(ours) / of(torch)))
  const wall = ratios(({ wallMs }) => wallMs)
  const cpu = ratios(({ cpuMs }) => cpuMs)
  const share = (rate: (gemm: GemmRate) => number, of: (time: StepTime) => number): number =>
    (pairs[0]?.gemm.flops ?? 0) /
    median(pairs.map(({ gemm }) => rate(gemm))) /
    median(pairs.map(({ ours }) => of(ours)))
  const floor = (pairs[0]?.gemm.flops ?? 0) / median(pairs.map(({ gemm }) => gemm.perWallMs))
  const range = (values: readonly number[]) =>
    values.length === 0 ? null : [round(Math.min(...values), 3), round(Math.max(...values), 3)]
  return {
    pairs: pairs.length,
    oursMs: round(median(pairs.map(({ ours }) => ours.wallMs)), 1),
    torchMs: round(median(pairs.flatMap(({ torch }) => torch?.wallMs ?? [])), 1),
    ratio: round(median(wall), 3),
    ratioRange: range(wall),
    oursCpuMs: round(median(pairs.map(({ ours }) => ours.cpuMs)), 1),
    torchCpuMs: round(median(pairs.flatMap(({ torch }) => torch?.cpuMs ?? [])), 1),
    cpuRatio: round(median(cpu), 3),
    cpuRatioRange: range(cpu),
    gemmShare: round(
      share(
        ({ perWallMs }) => perWallMs,
        ({ wallMs }) => wallMs
      ),
      3
    ),
    gemmShareCpu: round(
      share(
        ({ perCpuMs }) => perCpuMs,
        ({ cpuMs }) => cpuMs
      ),
      3
    ),
    floorRatio: round(floor / median(pairs.flatMap(({ torch }) => torch?.wallMs ?? [])), 3),
    torchGemmGflops: round(median(pairs.flatMap(({ torchGemm }) => torchGemm?.perWallMs ?? [])) / 1e6, 1),
    gemmGflops: round(median(pairs.map(({ gemm }) => gemm.perWallMs)) / 1e6, 1),
    stepGflop: round((pairs[0]?.gemm.flops ?? 0) / 1e9, 1)
  }
}
