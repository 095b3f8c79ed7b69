import type { Weight } from '../../onnx/graph/weight.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { createSelected } from './selected.js'

/**
 * LayerNorm tuning (Zhao et al. 2023, https://arxiv.org/abs/2312.11420): scale and shift of the normalisations train.
 * Selective.
 *
 * `<module>.ln_tuning_layers.weight` and `.bias`, float32[features] each, as PEFT names them, from the base's values;
 * root-mean-square normalisations have no shift. Linear in its parameters: mixing is exact.
 */
export const createLayerNorm = (parts: readonly Weight[], base: BaseModel): Adapter =>
  createSelected(
    parts.map((weight) => ({ weight, name: `${weight.module}.ln_tuning_layers.${weight.slot}` })),
    base
  )

/** Scales and shifts of a model's normalisations, in graph order. A scale of one axis belongs to nothing else. */
export function normalisationsOf({ weights }: BaseModel): Weight[] {
  const all = [...weights.values()]
  const modules = new Set(
    all.flatMap(({ slot, initializer, module }) => (slot === 'weight' && initializer.shape.length === 1 ? module : []))
  )
  return all.filter(({ slot, module }) => modules.has(module) && (slot === 'weight' || slot === 'bias'))
}
