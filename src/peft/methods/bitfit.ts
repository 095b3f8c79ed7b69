import type { Weight } from '../../onnx/graph/weight.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { createSelected } from './selected.js'

/**
 * BitFit (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199): only biases train, those of linear layers,
 * convolutions and normalisations. Selective.
 *
 * float32[out] each, under their own names, from the base's values. Linear in its parameters: mixing is exact.
 */
export const createBitfit = (biases: readonly Weight[], base: BaseModel): Adapter =>
  createSelected(
    biases.map((weight) => ({ weight })),
    base
  )

/** Biases of a model, in graph order. */
export const biasesOf = ({ weights }: BaseModel): Weight[] =>
  [...weights.values()].filter(({ slot }) => slot === 'bias')
