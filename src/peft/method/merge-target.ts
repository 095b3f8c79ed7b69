import { PeertuneError } from '../../base/errors.js'
import type { Shape } from '../../tensor/schema.js'
import type { BaseModel } from './base-model.js'
import { huggingFaceValues } from './layout.js'
import type { LinearModule } from './target.js'

/** A matrix in whatever layout: element (out, in) lies at out * outStride + in * inStride. */
export interface LinearView {
  readonly values: Float32Array
  readonly outStride: number
  readonly inStride: number
}

/** A weight of the merged model, in the graph's own layout. */
export interface MergedWeight {
  readonly values: Float32Array
  readonly shape: Shape
}

/** The base's weights while parameters are merged into them; each is read when it is first changed. */
export interface MergeTarget {
  /** The live weight of a linear layer. */
  linear(module: LinearModule): LinearView
  /** The live bias of a linear layer, if it has one. */
  bias(module: LinearModule): Float32Array | undefined
  /** Other values for a weight, and another shape where it may have one; both as Hugging Face stores them. */
  replace(name: string, values: Float32Array, shape: Shape): void
  /** Another weight [out, in] for a linear layer, with any number of outputs. */
  replaceLinear(module: LinearModule, values: Float32Array): void
  /** What has been changed. */
  changed(): ReadonlyMap<string, MergedWeight>
}

export function createMergeTarget({ weights, read }: BaseModel): MergeTarget {
  const changed = new Map<string, MergedWeight>()
  const live = (name: string): Float32Array | undefined => {
    const weight = weights.get(name)
    if (weight === undefined) return undefined
    const { values } = changed.get(name) ?? { values: read(weight.initializer).slice() }
    if (!changed.has(name)) changed.set(name, { values, shape: weight.initializer.shape })
    return values
  }
  return {
    linear: (module) => linearView(module, live(module.weight.name) as Float32Array),
    bias: ({ path }) => live(`${path}.bias`),
    replace(name, values, shape) {
      const weight = weights.get(name)
      if (weight === undefined)
        throw new PeertuneError('peft/cannot-merge', `the base model has no weight ${name}`, { facts: { name } })
      const { transposed } = weight
      changed.set(name, {
        values: huggingFaceValues(values, { transposed, shape }),
        shape: transposed ? shape.toReversed() : shape
      })
    },
    replaceLinear({ weight, inFeatures, outFirst }, values) {
      const outputs = values.length / inFeatures
      const rows = { transposed: !outFirst, shape: [outputs, inFeatures] }
      const shape = outFirst ? rows.shape : rows.shape.toReversed()
      changed.set(weight.name, { values: huggingFaceValues(values, rows), shape })
    },
    changed: () => changed
  }
}

/** How a linear layer's weight lies in memory. */
export const linearView = (
  { inFeatures, outFeatures, outFirst }: Pick<LinearModule, 'inFeatures' | 'outFeatures' | 'outFirst'>,
  values: Float32Array
): LinearView =>
  outFirst ? { values, outStride: inFeatures, inStride: 1 } : { values, outStride: 1, inStride: outFeatures }
