import { PeertuneError } from '../../base/errors.js'
import type { SparseSpec } from '../../base/peft-spec.js'
import { seededRng } from '../../base/rng.js'
import { intConstant } from '../../onnx/graph/constant.js'
import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import { linearView } from '../method/merge-target.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { emitBase, int, type LinearUse, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

export interface SparseOptions {
  readonly modules: readonly LinearModule[]
  /** Share of a weight's elements that train. */
  readonly density: number
  readonly mask: SparseSpec['mask']
  /** Which mask file, for `fisher`. */
  readonly maskSha256?: string
  readonly base: BaseModel
  /** Every peer that has it draws the same mask. */
  readonly seed: string
}

/**
 * A few elements of each weight train, the same on every peer: W' = W + (values at the mask). Selective. The mask is
 * drawn from the common seed, as in the first stage of SLoRA (Babakniya et al. 2023, https://arxiv.org/abs/2308.06522),
 * takes the base weight's largest elements, or stands in a file (mask-file.ts); it is never sent.
 *
 * `<module>.sparse_delta` float32[elements], from zero, so that training starts from the base model; elements in the
 * order of the mask's indices in [out, in]. Linear in its parameters: mixing is exact.
 */
export function createSparse(options: SparseOptions): Adapter {
  const { modules } = options
  const masked = maskedModules(options)
  const tensors = masked.map(({ path, indices }) => ({
    name: nameDelta(path),
    shape: [indices.length],
    initial: new Float32Array(indices.length)
  }))
  return {
    tensors,
    wraps: modules.map(({ path }) => path),
    rewrite(graph) {
      const prepared = withTensors(graph, tensors)
      const constants = masked.map((module) => intConstant(nameIndices(module.path), placesOf(module)))
      const rewritten = {
        ...prepared,
        initializers: new Map([...prepared.initializers, ...constants.map((one) => [one.name, one] as const)]),
        values: new Map([...prepared.values, ...constants.map((one) => [one.name, one] as const)])
      }
      return rewriteLinears(rewritten, masked, emitSparse)
    },
    merge(target, values) {
      for (const module of masked) {
        const delta = values.get(nameDelta(module.path)) as Float32Array
        const { values: weight } = target.linear(module)
        for (const [index, place] of placesOf(module).entries()) weight[place]! += delta[index]!
      }
    }
  }
}

export interface MaskedModule extends LinearModule {
  /** Of out * in + in, ascending. */
  readonly indices: Uint32Array
}

export const nameDelta = (path: string): string => `${path}.sparse_delta`
const nameIndices = (path: string): string => `${path}.sparse_mask`

/** Indices in the order that the weight lies in. */
function placesOf(module: MaskedModule): number[] {
  const { outStride, inStride } = linearView(module, new Float32Array())
  const { inFeatures } = module
  return Array.from(module.indices, (i) => Math.floor(i / inFeatures) * outStride + (i % inFeatures) * inStride)
}

/** Selection sampling (Knuth, TAOCP volume 2, algorithm S): `count` of all, each set equally likely, in order. */
function drawn(seed: string, { path, inFeatures, outFeatures }: LinearModule, count: number): Uint32Array {
  const rng = seededRng(seed, 'sparse', path)
  const size = inFeatures * outFeatures
  const indices = new Uint32Array(count)
  let chosen = 0
  for (let index = 0; chosen < count; index++) {
    if ((size - index) * rng.uniform() < count - chosen) indices[chosen++] = index
  }
  return indices
}

/** Elements of a weight that train. */
export const elementsOf = ({ inFeatures, outFeatures }: LinearModule, density: number): number => {
  const size = inFeatures * outFeatures
  return Math.max(1, Math.min(size, Math.floor(density * size)))
}

/** Each layer with its mask. Throws `config/no-mask` and `config/wrong-mask` for masks from files. */
export const maskedModules = (options: SparseOptions): MaskedModule[] =>
  options.modules.map((module) => ({ ...module, indices: maskOf(module, options) }))

function maskOf(module: LinearModule, { mask, density, seed, base, maskSha256 = '' }: SparseOptions): Uint32Array {
  const count = elementsOf(module, density)
  if (mask === 'random') return drawn(seed, module, count)
  if (mask === 'magnitude') return largestElements(magnitudesOf(module, base), count)
  const indices = base.masks?.(maskSha256).get(module.path)
  if (indices?.length === count && (indices.at(-1) ?? 0) < module.inFeatures * module.outFeatures) return indices
  throw new PeertuneError('config/wrong-mask', `the mask file does not fit ${module.path}`, {
    facts: { module: module.path, expected: count, got: indices?.length ?? 'nothing' },
    hint: 'make it for this model, with the density and the targets of the manifest: peertune mask'
  })
}

function magnitudesOf(module: LinearModule, base: BaseModel): Float32Array {
  const { values, outStride, inStride } = linearView(module, base.read(module.weight.initializer))
  const { inFeatures, outFeatures } = module
  return Float32Array.from({ length: inFeatures * outFeatures }, (_, i) =>
    Math.abs(values[Math.floor(i / inFeatures) * outStride + (i % inFeatures) * inStride]!)
  )
}

/** Indices of the `count` largest, ascending; of equal ones the first. */
export function largestElements(scores: Float32Array, count: number): Uint32Array {
  const threshold = scores.slice().sort()[scores.length - count]!
  let ties = count
  for (const score of scores) if (score > threshold) ties--
  const indices = new Uint32Array(count)
  let chosen = 0
  for (let i = 0; i < scores.length; i++)
    if (scores[i]! > threshold || (scores[i] === threshold && ties-- > 0)) indices[chosen++] = i
  return indices
}

/** y = x (W + delta) + bias, the weight as one row of elements while delta is added. */
function emitSparse(use: LinearUse<MaskedModule>, context: RewriteContext): void {
  const { module, gemm, weight, x, y } = use
  const { path, inFeatures, outFeatures } = module
  const size = inFeatures * outFeatures
  const flat = context.emit({ op: 'Reshape', inputs: [weight, context.ints([size])], shape: [size] })
  const sum = context.emit({
    op: 'ScatterElements',
    inputs: [flat, nameIndices(path), nameDelta(path)],
    attributes: { axis: int(0), reduction: { type: 'string', value: 'add' } },
    shape: [size]
  })
  const shape = context.shapeOf(weight)
  const adapted = context.emit({ op: 'Reshape', inputs: [sum, context.ints(shape)], shape })
  emitBase(use, context, { inputs: [x, adapted, ...gemm.inputs.slice(2)], output: y })
}
