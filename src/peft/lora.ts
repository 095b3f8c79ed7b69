import { seededRng } from '../base/rng.js'
import type { Graph, Node } from '../onnx/graph.js'
import type { Adapter } from './method.js'
import { float32Value, type LinearReplacement, rewriteLinears, rowsOf } from './rewrite-linear.js'
import type { LinearModule } from './target.js'

export interface LoraOptions {
  readonly modules: readonly LinearModule[]
  readonly rank: number
  /** alpha / rank multiplies the update. */
  readonly alpha: number
  /** Every peer that has it draws the same A. */
  readonly seed: string
}

/**
 * Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685): y = base(x) + alpha / rank * B A x with
 * A float32[rank, in] and B float32[out, rank], laid out and named as PEFT does. A starts uniform in +-1/sqrt(in), which is
 * what PEFT's kaiming_uniform(a = sqrt 5) comes to, and B at zero, so that training starts from the base model.
 */
export function createLora({ modules, rank, alpha, seed }: LoraOptions): Adapter {
  const scale = alpha / rank
  const tensors = modules.flatMap(({ path, inFeatures, outFeatures }) => [
    { name: nameA(path), shape: [rank, inFeatures], initial: startOfA(seed, path, rank, inFeatures) },
    { name: nameB(path), shape: [outFeatures, rank], initial: new Float32Array(outFeatures * rank) }
  ])
  const byWeight = new Map(modules.map((module) => [module.weight.name, module]))
  return {
    tensors,
    rewrite(graph) {
      const inputs = tensors.map(({ name, shape }) => float32Value(name, shape))
      return rewriteLinears(graph, inputs, (gemm, weight) => {
        const module = byWeight.get(weight)
        return module === undefined ? undefined : adapted(graph, gemm, { path: module.path, rank, scale })
      })
    }
  }
}

const nameA = (path: string): string => `${path}.lora_A.weight`
const nameB = (path: string): string => `${path}.lora_B.weight`

function startOfA(seed: string, path: string, rank: number, inFeatures: number): Float32Array {
  const rng = seededRng(seed, 'lora', path)
  const bound = 1 / Math.sqrt(inFeatures)
  return Float32Array.from({ length: rank * inFeatures }, () => (2 * rng.uniform() - 1) * bound)
}

/** base = Gemm(x, W, bias); u = Gemm(x, A^T); y = Gemm(u, B^T) * scale + base. */
function adapted(
  graph: Graph,
  gemm: Node,
  { path, rank, scale }: { readonly path: string; readonly rank: number; readonly scale: number }
): LinearReplacement {
  const [x = ''] = gemm.inputs
  const [y = ''] = gemm.outputs
  const base = `${y}.base`
  const low = `${y}.low`
  const transB = { type: 'int', value: 1 } as const
  const lowRank: Node = gemmNode(low, [x, nameA(path)], { transB })
  const update: Node = gemmNode(y, [low, nameB(path), base], { transB, alpha: { type: 'float', value: scale } })
  const shape = graph.values.get(y)?.shape ?? []
  return {
    nodes: [{ ...gemm, name: base, outputs: [base] }, lowRank, update],
    values: [float32Value(low, [rowsOf(graph, gemm), rank]), { name: base, type: 'float32', shape }]
  }
}

const gemmNode = (output: string, inputs: readonly string[], attributes: Node['attributes']): Node => ({
  op: 'Gemm',
  domain: '',
  name: output,
  inputs,
  outputs: [output],
  attributes
})
