import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import type { Adapter } from '../method/method.js'
import { emitBase, type LinearUse, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

export interface Ia3Module extends LinearModule {
  /** The input is scaled, not the output. */
  readonly feedforward: boolean
}

/**
 * (IA)3 (Liu et al. 2022, https://arxiv.org/abs/2205.05638): learned vectors that scale what goes into or comes out of a
 * linear layer. Additive (a rescaling without weights of its own kind).
 *
 * y = l * base(x) with l float32[out, 1], or y = base(l * x) with l float32[1, in] in feed-forward layers, as PEFT lays
 * them out; all start at one, so that training starts from the base model. Each layer is linear in its vector, and the
 * vectors of different layers multiply each other only through the network: the mean of vectors is the mean of effective
 * weights, layer by layer, and mixing has no cross term.
 */
export function createIa3(modules: readonly Ia3Module[]): Adapter {
  const tensors = modules.map(({ path, feedforward, inFeatures, outFeatures }) => ({
    name: nameL(path),
    shape: feedforward ? [1, inFeatures] : [outFeatures, 1],
    initial: new Float32Array(feedforward ? inFeatures : outFeatures).fill(1)
  }))
  return {
    tensors,
    wraps: modules.map(({ path }) => path),
    rewrite: (graph) => rewriteLinears(withTensors(graph, tensors), modules, emitIa3),
    merge(target, values) {
      for (const module of modules) {
        const l = values.get(nameL(module.path)) as Float32Array
        const { values: weight, outStride, inStride } = target.linear(module)
        for (let o = 0; o < module.outFeatures; o++)
          for (let i = 0; i < module.inFeatures; i++)
            weight[o * outStride + i * inStride]! *= l[module.feedforward ? i : o]!
        if (module.feedforward) continue
        const bias = target.bias(module)
        if (bias !== undefined) for (let o = 0; o < bias.length; o++) bias[o]! *= l[o]!
      }
    }
  }
}

const nameL = (path: string): string => `${path}.ia3_l`

function emitIa3(use: LinearUse<Ia3Module>, context: RewriteContext): void {
  const { module, gemm, x, y, rows } = use
  const { path, inFeatures, outFeatures } = module
  if (module.feedforward) {
    const scaled = context.emit({ op: 'Mul', inputs: [x, nameL(path)], shape: [rows, inFeatures] })
    emitBase(use, context, { inputs: [scaled, ...gemm.inputs.slice(1)], output: y })
    return
  }
  const base = emitBase(use, context)
  const l = context.emit({
    op: 'Reshape',
    inputs: [nameL(path), context.ints([1, outFeatures])],
    shape: [1, outFeatures]
  })
  context.emit({ op: 'Mul', inputs: [base, l], shape: [rows, outFeatures], outputs: [y] })
}
