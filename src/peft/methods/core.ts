import { seededRng } from '../../base/rng.js'
import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import { huggingFaceValues } from '../method/layout.js'
import { addProduct, type LowRankModule, nameA, nameB } from './lora.js'
import type { Adapter, NamedTensor } from '../method/method.js'
import { orthonormalRows } from '../method/orthonormal.js'
import { emitBase, int, type LinearUse, real, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'

export interface CoreOptions {
  /** The rank is that of one core. */
  readonly modules: readonly LowRankModule[]
  /** Cores side by side; undefined: one, without an axis for it. */
  readonly heads: number | undefined
  /** Every peer that has it draws the same bases. */
  readonly seed: string
}

/**
 * A small core between frozen orthonormal bases: y = base(x) + alpha / rank * sum_h B_h R_h A_h x. Reparameterized.
 *
 * One core is LoRA-XS (Balazy et al. 2024, https://arxiv.org/abs/2405.17604) as Fed-SB federates it (Singhal et al. 2025,
 * https://arxiv.org/abs/2502.15436), with bases drawn from the seed in place of singular vectors; several are the heads
 * of RAVAN (Raje et al. 2025) without its scaling factors, which would make it bilinear. Trained: R float32[rank, rank],
 * or float32[heads, rank, rank], from zero, so that training starts from the base model. Frozen: A
 * float32[heads * rank, in] with orthonormal rows and B float32[out, heads * rank] with orthonormal columns.
 *
 * Linear in its parameters: mixing is exact, for rank^2 numbers a module whatever its width. PEFT loads it as LoRA of
 * rank heads * rank with B_h R_h for B.
 */
export function createCore({ modules, heads: sideBySide, seed }: CoreOptions): Adapter {
  const heads = sideBySide ?? 1
  const isHeaded = sideBySide !== undefined
  const wide = modules.map((module) => ({ ...module, heads, isHeaded, total: module.rank * heads }))
  const tensors = wide.map(({ path, rank }) => ({
    name: nameR(path),
    shape: isHeaded ? [heads, rank, rank] : [rank, rank],
    initial: new Float32Array(heads * rank * rank)
  }))
  const frozen = wide.flatMap((module) => {
    const { path, total, inFeatures, outFeatures } = module
    const columns = orthonormalRows(seededRng(seed, 'core B', path), total, outFeatures)
    const b = huggingFaceValues(columns, { transposed: true, shape: [total, outFeatures] })
    const a = orthonormalRows(seededRng(seed, 'core A', path), total, inFeatures)
    return [
      { name: nameBaseA(path), shape: [total, inFeatures], initial: a },
      { name: nameBaseB(path), shape: [outFeatures, total], initial: b }
    ]
  })
  return {
    tensors,
    wraps: modules.map(({ path }) => path),
    adds: true,
    frozen,
    rewrite: (graph) => rewriteLinears(withTensors(graph, tensors, frozen), wide, emitCore),
    exported: (values) => wide.flatMap((module) => asLora(module, values)),
    merge(target, values) {
      for (const module of wide) {
        const a = values.get(nameBaseA(module.path)) as Float32Array
        addProduct(target, { ...module, rank: module.total }, { a, b: product(module, values) })
      }
    }
  }
}

interface CoreModule extends LowRankModule {
  readonly heads: number
  /** The core has an axis of heads. */
  readonly isHeaded: boolean
  /** heads * rank */
  readonly total: number
}

const nameR = (path: string): string => `${path}.lora_core`
const nameBaseA = (path: string): string => `${path}.core_A.weight`
const nameBaseB = (path: string): string => `${path}.core_B.weight`

/** low = x A^T; mid_h = low_h R_h^T; y = mid B^T * scale + base. */
function emitCore(use: LinearUse<CoreModule>, context: RewriteContext): void {
  const { module, x, y, rows } = use
  const { path, total, isHeaded, scale, outFeatures } = module
  const transB = int(1)
  const base = emitBase(use, context)
  const shape = [rows, total]
  const low = context.emit({ op: 'Gemm', inputs: [x, nameBaseA(path)], attributes: { transB }, shape })
  const mid = isHeaded
    ? emitHeads(low, use, context)
    : context.emit({ op: 'Gemm', inputs: [low, nameR(path)], attributes: { transB }, shape })
  context.emit({
    op: 'Gemm',
    inputs: [mid, nameBaseB(path), base],
    attributes: { transB, alpha: real(scale) },
    outputs: [y],
    shape: [rows, outFeatures]
  })
}

/** [rows, heads * rank] -> [heads, rows, rank], times each head's R^T, and back. */
function emitHeads(low: string, { module, rows }: LinearUse<CoreModule>, context: RewriteContext): string {
  const { path, total, heads, rank } = module
  const reshape = (x: string, shape: readonly number[]) =>
    context.emit({ op: 'Reshape', inputs: [x, context.ints(shape)], shape })
  const transpose = (x: string, perm: readonly number[], shape: readonly number[]) =>
    context.emit({ op: 'Transpose', inputs: [x], attributes: { perm: { type: 'ints', value: perm } }, shape })
  const perHead = transpose(reshape(low, [rows, heads, rank]), [1, 0, 2], [heads, rows, rank])
  const cores = transpose(nameR(path), [0, 2, 1], [heads, rank, rank])
  const mixed = context.emit({ op: 'MatMul', inputs: [perHead, cores], shape: [heads, rows, rank] })
  return reshape(transpose(mixed, [1, 0, 2], [rows, heads, rank]), [rows, total])
}

/** B_h R_h side by side, float32[out, heads * rank]. */
function product(
  { path, heads, rank, total, outFeatures }: CoreModule,
  values: ReadonlyMap<string, Float32Array>
): Float32Array {
  const b = values.get(nameBaseB(path)) as Float32Array
  const r = values.get(nameR(path)) as Float32Array
  const result = new Float32Array(outFeatures * total)
  for (let o = 0; o < outFeatures; o++)
    for (let h = 0; h < heads; h++)
      for (let j = 0; j < rank; j++) {
        let sum = 0
        for (let i = 0; i < rank; i++) sum += b[o * total + h * rank + i]! * r[(h * rank + i) * rank + j]!
        result[o * total + h * rank + j] = sum
      }
  return result
}

function asLora(module: CoreModule, values: ReadonlyMap<string, Float32Array>): NamedTensor[] {
  const { path, total, inFeatures, outFeatures } = module
  const a = values.get(nameBaseA(path)) as Float32Array
  return [
    { name: nameA(path), shape: [total, inFeatures], values: a },
    { name: nameB(path), shape: [outFeatures, total], values: product(module, values) }
  ]
}
