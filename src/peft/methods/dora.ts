import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import { createLora, emitUpdate, type LowRankModule, nameA, nameB } from './lora.js'
import { type LinearView, linearView } from '../method/merge-target.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { emitBase, int, type LinearUse, real, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'

export interface DoraOptions {
  readonly modules: readonly LowRankModule[]
  readonly base: BaseModel
  readonly seed: string
}

/**
 * Weight-decomposed low-rank adaptation (Liu et al. 2024, https://arxiv.org/abs/2402.09353). Reparameterized.
 *
 * y = m * (V x) / ||V|| + bias with V = W + scale * B A and the norm taken for each output: LoRA's A float32[rank, in]
 * and B float32[out, rank] for the direction, and a magnitude float32[out] that starts at ||W||, so that training starts
 * from the base model. The norm counts as a constant in the backward pass (section 4.3 of the paper, and PEFT).
 *
 * Not linear in its parameters: factors multiply each other and the magnitude. It mixes as LoRA does, with LoRA's
 * cross term.
 */
export function createDora({ modules, base, seed }: DoraOptions): Adapter {
  const lora = createLora({ modules, seed })
  const tensors = modules.flatMap((module, index) => [
    ...lora.tensors.slice(2 * index, 2 * index + 2),
    { name: nameM(module.path), shape: [module.outFeatures], initial: rowNorms(module, base) }
  ])
  return {
    tensors,
    wraps: modules.map(({ path }) => path),
    detached: modules.map(({ path }) => nameNorm(path)),
    rewrite(graph) {
      const normed = new Set<string>()
      return rewriteLinears(withTensors(graph, tensors), modules, (use, context) => {
        if (!normed.has(use.module.path)) emitNorm(use, context)
        normed.add(use.module.path)
        emitDora(use, context)
      })
    },
    merge(target, values) {
      lora.merge?.(target, values)
      for (const module of modules) rescale(target.linear(module), module, values)
    }
  }
}

const nameM = (path: string): string => `${path}.lora_magnitude_vector`
const nameNorm = (path: string): string => `${path}.weight_norm`

/** ||W|| of each output, summed in float64 in a fixed order: the same bits on every peer. */
function rowNorms(module: LowRankModule, base: BaseModel): Float32Array {
  const view = linearView(module, base.read(module.weight.initializer))
  return Float32Array.from({ length: module.outFeatures }, (_, o) => normOf(view, o, module))
}

/** Of what leads to output `o`. */
function normOf({ values, outStride, inStride }: LinearView, o: number, { inFeatures }: LowRankModule): number {
  const start = o * outStride
  let sum = 0
  for (let i = 0; i < inFeatures; i++) sum += values[start + i * inStride]! ** 2
  return Math.sqrt(sum)
}

function rescale(view: LinearView, module: LowRankModule, parameters: ReadonlyMap<string, Float32Array>): void {
  const { values, outStride, inStride } = view
  const magnitude = parameters.get(nameM(module.path)) as Float32Array
  for (let o = 0; o < module.outFeatures; o++) {
    const factor = magnitude[o]! / normOf(view, o, module)
    for (let i = 0; i < module.inFeatures; i++) values[o * outStride + i * inStride]! *= factor
  }
}

/** ||W + scale * B A|| of each output, in the layout that W lies in. */
function emitNorm({ module, gemm, weight }: LinearUse<LowRankModule>, context: RewriteContext): void {
  const { path, inFeatures, outFeatures } = module
  const [a, b] = [nameA(path), nameB(path)]
  const outFirst = gemm.attributes.transB?.value === 1
  const direction = context.emit({
    op: 'Gemm',
    inputs: outFirst ? [b, a, weight] : [a, b, weight],
    attributes: { alpha: real(module.scale), ...(outFirst ? {} : { transA: int(1), transB: int(1) }) },
    shape: outFirst ? [outFeatures, inFeatures] : [inFeatures, outFeatures]
  })
  context.emit({
    op: 'ReduceL2',
    inputs: [direction, context.ints([outFirst ? 1 : 0])],
    attributes: { keepdims: int(0) },
    outputs: [nameNorm(path)],
    shape: [outFeatures]
  })
}

/** y = (x W + scale * B A x) * (m / norm) + bias */
function emitDora(use: LinearUse<LowRankModule>, context: RewriteContext): void {
  const { module, gemm, bias, rows, y } = use
  const { path, outFeatures } = module
  const shape = [rows, outFeatures]
  const base = emitBase(use, context, { inputs: gemm.inputs.slice(0, 2) })
  const direction = emitUpdate(use, context, { factors: [nameA(path), nameB(path)], base })
  const factor = context.emit({ op: 'Div', inputs: [nameM(path), nameNorm(path)], shape: [outFeatures] })
  const output = bias === undefined ? { outputs: [y] } : {}
  const scaled = context.emit({ op: 'Mul', inputs: [direction, factor], shape, ...output })
  if (bias !== undefined) context.emit({ op: 'Add', inputs: [scaled, bias], shape, outputs: [y] })
}
