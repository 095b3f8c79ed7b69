import type { Adapter, BaseModel } from '../method/method.js'
import { createSelected } from './selected.js'

/**
 * Every floating-point parameter of the base trains, under its Hugging Face name. Selective, in the limit. Made for
 * pre-training small models; tied tensors are one parameter. Linear in its parameters: mixing is exact.
 */
export const createFull = (base: BaseModel): Adapter =>
  createSelected(
    Array.from(base.weights.values(), (weight) => ({ weight })),
    base
  )
