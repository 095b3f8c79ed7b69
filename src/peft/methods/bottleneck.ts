import { seededRng } from '../../base/rng.js'
import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import type { Adapter } from '../method/method.js'
import { emitBase, int, type LinearUse, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

export interface BottleneckOptions {
  readonly modules: readonly LinearModule[]
  readonly width: number
  readonly activation: 'relu' | 'gelu'
  readonly seed: string
}

/**
 * Bottleneck adapters behind linear layers: y = h + up(activation(down(h))) with h = base(x), before what the layer's
 * residual adds. Additive. Behind the projections of attention and feed-forward they are those of Houlsby et al. 2019
 * (https://arxiv.org/abs/1902.00751), behind the feed-forward only those of Pfeiffer et al. 2021
 * (https://arxiv.org/abs/2005.00247).
 *
 * `adapter_down.weight` float32[width, out] uniform in +-1/sqrt(out), `adapter_up.weight` float32[out, width] zero, both
 * with biases of zero, so that training starts from the base model. Not linear in its parameters (the two matrices
 * multiply each other around a nonlinearity): mixing has a cross term like LoRA's, and nothing can be merged into the
 * base. PEFT does not have it.
 */
export function createBottleneck({ modules, width, activation, seed }: BottleneckOptions): Adapter {
  const tensors = modules.flatMap(({ path, outFeatures }) => {
    const names = namesOf(path)
    const rng = seededRng(seed, 'bottleneck', path)
    const bound = 1 / Math.sqrt(outFeatures)
    const down = Float32Array.from({ length: width * outFeatures }, () => (2 * rng.uniform() - 1) * bound)
    return [
      { name: names.down, shape: [width, outFeatures], initial: down },
      { name: names.downBias, shape: [width], initial: new Float32Array(width) },
      { name: names.up, shape: [outFeatures, width], initial: new Float32Array(outFeatures * width) },
      { name: names.upBias, shape: [outFeatures], initial: new Float32Array(outFeatures) }
    ]
  })
  return {
    tensors,
    wraps: modules.map(({ path }) => path),
    rewrite: (graph) =>
      rewriteLinears(withTensors(graph, tensors), modules, (use, context) =>
        emitBottleneck(use, context, { width, activation })
      )
  }
}

const namesOf = (path: string) => ({
  down: `${path}.adapter_down.weight`,
  downBias: `${path}.adapter_down.bias`,
  up: `${path}.adapter_up.weight`,
  upBias: `${path}.adapter_up.bias`
})

function emitBottleneck(
  use: LinearUse,
  context: RewriteContext,
  { width, activation }: Pick<BottleneckOptions, 'width' | 'activation'>
): void {
  const { module, y, rows } = use
  const names = namesOf(module.path)
  const transB = int(1)
  const h = emitBase(use, context)
  const middle = [rows, width]
  const shape = [rows, module.outFeatures]
  const down = context.emit({
    op: 'Gemm',
    inputs: [h, names.down, names.downBias],
    attributes: { transB },
    shape: middle
  })
  const active = context.emit({ op: activation === 'relu' ? 'Relu' : 'Gelu', inputs: [down], shape: middle })
  const up = context.emit({ op: 'Gemm', inputs: [active, names.up, names.upBias], attributes: { transB }, shape })
  context.emit({ op: 'Add', inputs: [h, up], outputs: [y], shape })
}

/** Last segments of the projections behind attention and behind the feed-forward, by the model families' own names. */
const BEHIND_ATTENTION = ['o_proj', 'attention.output.dense', 'attn.c_proj', 'out_proj', 'out_lin', 'self_attn.dense']
const BEHIND_FEED_FORWARD = ['down_proj', 'output.dense', 'mlp.c_proj', 'fc2', 'lin2', 'dense_4h_to_h', 'wo']

/** Where the placement puts adapters in a model of a known family; empty in another. */
export function placementTargets(linears: readonly LinearModule[], placement: 'houlsby' | 'pfeiffer'): LinearModule[] {
  const ends = (path: string, names: readonly string[]) => names.some((name) => `.${path}`.endsWith(`.${name}`))
  return linears.filter(({ path }) => {
    const attention = ends(path, BEHIND_ATTENTION)
    return attention ? placement === 'houlsby' : ends(path, BEHIND_FEED_FORWARD)
  })
}
