import { seededRng } from '../base/rng.js'
import type { RewriteContext } from '../onnx/rewrite.js'
import type { MergeTarget } from './merge-target.js'
import type { Adapter, AdapterTensor } from './method.js'
import { emitBase, int, type LinearUse, real, rewriteLinears, withTensors } from './rewrite-linear.js'
import type { LinearModule } from './target.js'

/** A linear layer with an update of low rank: y = base(x) + scale * B A x. */
export interface LowRankModule extends LinearModule {
  readonly rank: number
  readonly scale: number
}

export interface LoraOptions {
  readonly modules: readonly LowRankModule[]
  /** Every peer that has it draws the same A. */
  readonly seed: string
  /** FFA-LoRA (Sun et al. 2024, https://arxiv.org/abs/2403.12313): A stays as drawn, only B trains and travels. */
  readonly freezeA?: boolean
}

/**
 * Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Reparameterized.
 *
 * y = base(x) + scale * B A x with A float32[rank, in] and B float32[out, rank], laid out and named as PEFT does;
 * scale is alpha / rank, or alpha / sqrt(rank) in rank-stabilised LoRA (Kalajdzievski 2023,
 * https://arxiv.org/abs/2312.03732). A starts uniform in +-1/sqrt(in), which is what PEFT's
 * kaiming_uniform(a = sqrt 5) comes to, and B at zero, so that training starts from the base model.
 *
 * The update is a product of two trained factors: the mean of two peers' factors is not the factors of their mean
 * update, and differs by 1/4 (B1 - B2)(A1 - A2). A common A and frequent exchanges keep that small. With A frozen the
 * update is linear in what is trained, and mixing is exact.
 */
export function createLora({ modules, seed, freezeA = false }: LoraOptions): Adapter {
  const first = modules.map((module) => ({
    name: nameA(module.path),
    shape: [module.rank, module.inFeatures],
    initial: startOfA(seed, module)
  }))
  const second = modules.map((module) => ({
    name: nameB(module.path),
    shape: [module.outFeatures, module.rank],
    initial: new Float32Array(module.outFeatures * module.rank)
  }))
  const tensors = freezeA ? second : first.flatMap((a, index) => [a, second[index] as AdapterTensor])
  const frozen = freezeA ? first : []
  return {
    tensors,
    frozen,
    rewrite: (graph) => rewriteLinears(withTensors(graph, tensors, frozen), modules, emitLora),
    merge(target, values) {
      for (const module of modules) addProduct(target, module, valuesOf(values, module))
    }
  }
}

export const nameA = (path: string): string => `${path}.lora_A.weight`
export const nameB = (path: string): string => `${path}.lora_B.weight`

export const valuesOf = (values: ReadonlyMap<string, Float32Array>, { path }: LowRankModule): Factors => ({
  a: values.get(nameA(path)) as Float32Array,
  b: values.get(nameB(path)) as Float32Array
})

export function startOfA(seed: string, { path, rank, inFeatures }: LowRankModule): Float32Array {
  const rng = seededRng(seed, 'lora', path)
  const bound = 1 / Math.sqrt(inFeatures)
  return Float32Array.from({ length: rank * inFeatures }, () => (2 * rng.uniform() - 1) * bound)
}

/** base = Gemm(x, W, bias); u = Gemm(x, A^T); y = Gemm(u, B^T) * scale + base. */
function emitLora(use: LinearUse<LowRankModule>, context: RewriteContext): void {
  const { module, y } = use
  const base = emitBase(use, context)
  emitUpdate(use, context, { factors: [nameA(module.path), nameB(module.path)], base, output: y })
}

export interface UpdateOptions {
  /** Names of A and B. */
  readonly factors: readonly [string, string]
  /** What the update is added to. */
  readonly base: string
  readonly output?: string
  readonly scale?: number
}

/** base + scale * B A x */
export function emitUpdate(
  { module, x, rows }: LinearUse<LowRankModule>,
  context: RewriteContext,
  { factors: [a, b], base, output, scale = module.scale }: UpdateOptions
): string {
  const transB = int(1)
  const low = context.emit({ op: 'Gemm', inputs: [x, a], attributes: { transB }, shape: [rows, module.rank] })
  return context.emit({
    op: 'Gemm',
    inputs: [low, b, base],
    attributes: { transB, alpha: real(scale) },
    shape: [rows, module.outFeatures],
    ...(output === undefined ? {} : { outputs: [output] })
  })
}

/** A float32[rank, in] and B float32[out, rank]. */
export interface Factors {
  readonly a: Float32Array
  readonly b: Float32Array
}

/** W += scale * B A, summed in float64. */
export function addProduct(
  target: MergeTarget,
  module: LinearModule & { readonly rank: number; readonly scale: number },
  { a, b }: Factors
): void {
  const { rank, scale, inFeatures, outFeatures } = module
  const { values, outStride, inStride } = target.linear(module)
  for (let o = 0; o < outFeatures; o++)
    for (let i = 0; i < inFeatures; i++) {
      let sum = 0
      for (let r = 0; r < rank; r++) sum += b[o * rank + r]! * a[r * inFeatures + i]!
      values[o * outStride + i * inStride]! += scale * sum
    }
}
