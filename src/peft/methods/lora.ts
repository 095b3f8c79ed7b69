import { seededRng } from '../../base/rng.js'
import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import type { MergeTarget } from '../method/merge-target.js'
import type { Adapter, AdapterTensor, NamedTensor } from '../method/method.js'
import { privatePath } from '../method/private.js'
import { emitBase, int, type LinearUse, real, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

/** A linear layer with an update of low rank: y = base(x) + scale * B A x. */
export interface LowRankModule extends LinearModule {
  readonly rank: number
  readonly scale: number
}

export interface LoraOptions {
  readonly modules: readonly LowRankModule[]
  /** Every peer that has it draws the same A. */
  readonly seed: string
  /** FFA-LoRA (Sun et al. 2024, https://arxiv.org/abs/2403.12313): A stays as it starts, only B trains and travels. */
  readonly freezeA?: boolean
  /** It never leaves the peer; another adapter on the same layers may be shared. */
  readonly isPrivate?: boolean
  /** Other start values than drawn A and zero B; what they make of the weight is taken off it again. */
  readonly startOf?: (module: LowRankModule) => Factors
}

/**
 * Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Reparameterized.
 *
 * y = base(x) + scale * B A x with A float32[rank, in] and B float32[out, rank], laid out and named as PEFT does;
 * scale is alpha / rank, or alpha / sqrt(rank) in rank-stabilised LoRA (Kalajdzievski 2023,
 * https://arxiv.org/abs/2312.03732). A starts uniform in +-1/sqrt(in), which is what PEFT's
 * kaiming_uniform(a = sqrt 5) comes to, and B at zero, so that training starts from the base model. From another start
 * A0, B0 (see svd-start.ts) the update is scale * (B A - B0 A0) x, with A0 and B0 frozen: the base model again.
 *
 * The update is a product of two trained factors: the mean of two peers' factors is not the factors of their mean
 * update, and differs by 1/4 (B1 - B2)(A1 - A2). A common A and frequent exchanges keep that small. With A frozen the
 * update is linear in what is trained, and mixing is exact.
 */
export function createLora({
  modules: layers,
  seed,
  freezeA = false,
  isPrivate = false,
  startOf
}: LoraOptions): Adapter {
  const modules = isPrivate ? layers.map((layer) => ({ ...layer, path: privatePath(layer.path) })) : layers
  const starts = modules.map((module) => ({
    module,
    ...(startOf?.(module) ?? { a: startOfA(seed, module), b: new Float32Array(module.outFeatures * module.rank) })
  }))
  const first = starts.map(({ module, a }) => tensorA(nameA(module.path), module, a))
  const second = starts.map(({ module, b }) => tensorB(nameB(module.path), module, b))
  const origins = starts.flatMap(({ module, a, b }) =>
    startOf === undefined ? [] : [tensorA(nameA0(module.path), module, a), tensorB(nameB0(module.path), module, b)]
  )
  const tensors = freezeA ? second : first.flatMap((a, index) => [a, second[index] as AdapterTensor])
  const frozen = [...(freezeA ? first : []), ...origins]
  return {
    tensors,
    wraps: layers.map(({ path }) => path),
    adds: true,
    isPrivate,
    frozen,
    ...(startOf === undefined
      ? {}
      : { exported: (values) => modules.flatMap((module) => asOneUpdate(module, values)) }),
    rewrite: (graph) =>
      rewriteLinears(withTensors(graph, tensors, frozen), modules, (use, context) =>
        emitLora(use, context, startOf !== undefined)
      ),
    merge(target, values) {
      for (const module of modules) {
        addProduct(target, module, factorsOf(values, module, [nameA, nameB]))
        if (startOf === undefined) continue
        addProduct(target, { ...module, scale: -module.scale }, factorsOf(values, module, [nameA0, nameB0]))
      }
    }
  }
}

const tensorA = (name: string, { rank, inFeatures }: LowRankModule, initial: Float32Array): AdapterTensor => ({
  name,
  shape: [rank, inFeatures],
  initial
})

const tensorB = (name: string, { rank, outFeatures }: LowRankModule, initial: Float32Array): AdapterTensor => ({
  name,
  shape: [outFeatures, rank],
  initial
})

export const nameA = (path: string): string => `${path}.lora_A.weight`
export const nameB = (path: string): string => `${path}.lora_B.weight`

const nameA0 = (path: string): string => `${path}.start_A.weight`
const nameB0 = (path: string): string => `${path}.start_B.weight`

const factorsOf = (
  values: ReadonlyMap<string, Float32Array>,
  { path }: LowRankModule,
  [a, b]: readonly [(path: string) => string, (path: string) => string]
): Factors => ({ a: values.get(a(path)) as Float32Array, b: values.get(b(path)) as Float32Array })

/** B A - B0 A0 as one product of twice the rank: [B, -B0] and [A; A0]. */
function asOneUpdate(module: LowRankModule, values: ReadonlyMap<string, Float32Array>): NamedTensor[] {
  const { path, rank, inFeatures, outFeatures } = module
  const { a, b } = factorsOf(values, module, [nameA, nameB])
  const { a: a0, b: b0 } = factorsOf(values, module, [nameA0, nameB0])
  const both = new Float32Array(2 * rank * inFeatures)
  both.set(a)
  both.set(a0, a.length)
  const wide = Float32Array.from({ length: 2 * rank * outFeatures }, (_, index) => {
    const [o, r] = [Math.floor(index / (2 * rank)), index % (2 * rank)]
    return r < rank ? b[o * rank + r]! : -b0[o * rank + r - rank]!
  })
  return [
    { name: nameA(path), shape: [2 * rank, inFeatures], values: both },
    { name: nameB(path), shape: [outFeatures, 2 * rank], values: wide }
  ]
}

function startOfA(seed: string, { path, rank, inFeatures }: LowRankModule): Float32Array {
  const rng = seededRng(seed, 'lora', path)
  const bound = 1 / Math.sqrt(inFeatures)
  return Float32Array.from({ length: rank * inFeatures }, () => (2 * rng.uniform() - 1) * bound)
}

/** base = Gemm(x, W, bias); u = Gemm(x, A^T); y = Gemm(u, B^T) * scale + base. */
function emitLora(use: LinearUse<LowRankModule>, context: RewriteContext, hasOrigin: boolean): void {
  const { module, y } = use
  const { path, scale } = module
  const plain = emitBase(use, context)
  const base = hasOrigin
    ? emitUpdate(use, context, { factors: [nameA0(path), nameB0(path)], base: plain, scale: -scale })
    : plain
  emitUpdate(use, context, { factors: [nameA(path), nameB(path)], base, output: y })
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
