import '../../src/base/polyfill.js'
import { createInterface } from 'node:readline'
import { DEFAULT_ACTIVATION_CACHE_MB, openLocalTrainer } from '../../src/node/model/open-trainer.js'
import { loadTrainableModel } from '../../src/node/model/program.js'
import { productFlops } from '../../src/onnx/graph/flops.js'
import { adamw, createAdamW } from '../../src/train/optimiser/adamw.js'
import type { TrainerSpec } from '../../src/train/trainer.js'
import { flattenGradients } from '../../src/autodiff/flatten.js'
import { largestProducts, openProbe, type Probe } from './products.js'
import { type TokenBatchSpec, tokenBatch } from './token-batch.js'

/** What one side of the comparison trains; the Python side (step_torch.py) takes the same JSON. */
export interface StepSpec extends TokenBatchSpec, Omit<TrainerSpec, 'device'> {}

export interface StepTime {
  readonly wallMs: number
  readonly cpuMs: number
}

export interface GemmRate {
  /** Floating-point operations of one step's matrix products. */
  readonly flops: number
  /** The same per millisecond of wall and of CPU time, at the best shape. */
  readonly perWallMs: number
  readonly perCpuMs: number
  /** [m, k, n] of the products among which the best was looked for. */
  readonly shapes: readonly (readonly [number, number, number])[]
}

/** Shapes among which the peak is looked for. */
const PEAK_SHAPES = 4

/**
 * One side of the step bench as a process of its own, so that its peak memory is its own: JSON of a StepSpec as the
 * argument, then one command a line on stdin (`step`, `gemm`, `quit`) and one line of JSON back for each.
 */
async function serve(spec: StepSpec): Promise<void> {
  const started = performance.now()
  const trainer = await openLocalTrainer({ ...spec, device: 'cpu' })
  const parameters = trainer.description.initial.slice()
  let state = createAdamW(parameters.length)
  const batch = tokenBatch(spec, trainer.description.inputs)
  const step = async (): Promise<number> => {
    const { loss, gradients } = await trainer.step(parameters, batch)
    state = adamw(parameters, gradients, state, { learningRate: 1e-4 })
    return loss
  }
  const loss = await step()
  say({ ready: true, firstStepMs: performance.now() - started, loss, parameters: parameters.length })
  let gemm: (() => Promise<GemmRate>) | undefined
  for await (const command of createInterface({ input: process.stdin })) {
    if (command === 'step') say(await timed(step))
    else if (command === 'gemm') {
      gemm ??= await openGemm(spec)
      say(await gemm())
    } else if (command === 'peak') say({ peakMb: process.resourceUsage().maxRSS / 1024 })
    else break
  }
  await trainer.close()
}

const say = (value: unknown): void => console.log(JSON.stringify(value))

async function timed(work: () => Promise<unknown>): Promise<StepTime> {
  const before = process.cpuUsage()
  const start = performance.now()
  await work()
  const wallMs = performance.now() - start
  const { user, system } = process.cpuUsage(before)
  return { wallMs, cpuMs: (user + system) / 1000 }
}

/** The runtime's own peak at the step's own shapes; the best shape's rate, measured anew on each call. */
async function openGemm(spec: StepSpec): Promise<() => Promise<GemmRate>> {
  const { buildProgram, inputs } = await loadTrainableModel(spec, {
    activationCacheMb: DEFAULT_ACTIVATION_CACHE_MB,
    ...spec,
    arithmetic: 'float32'
  })
  const batch = tokenBatch(spec, inputs)
  const shapes = Object.fromEntries(Object.entries(batch.inputs).map(([name, { shape }]) => [name, shape]))
  const { graph, gradients } = await buildProgram('train', { ...shapes, labels: batch.labels.shape })
  const flat = flattenGradients(graph, gradients)
  const probes: Probe[] = []
  const products = largestProducts(flat, PEAK_SHAPES)
  for (const product of products) probes.push(await openProbe(product, spec.threads))
  const flops = productFlops(flat, flat.nodes)
  for (const probe of probes) await probe.run()
  return async () => {
    let perWallMs = 0
    let perCpuMs = 0
    for (const probe of probes) {
      const { wallMs, cpuMs } = await timed(probe.run)
      perWallMs = Math.max(perWallMs, probe.flops / wallMs)
      perCpuMs = Math.max(perCpuMs, probe.flops / cpuMs)
    }
    return { flops, perWallMs, perCpuMs, shapes: products.map(({ m, k, n }) => [m, k, n] as const) }
  }
}

await serve(JSON.parse(process.argv[2] ?? '') as StepSpec)
