import { seededRng } from '../../src/base/rng.js'
import { shapeSize } from '../../src/tensor/schema.js'
import type { VitWeights } from './vit.js'

/** Spread of position embeddings, as in Hugging Face's ViT (`initializer_range`). */
const POSITION_SPREAD = 0.02

/**
 * Untrained weights, the same bits on every machine: norms 1, biases 0, linear weights uniform within
 * sqrt(6 / (in + out)) (Glorot & Bengio 2010), position embeddings uniform with standard deviation 0.02.
 */
export const initialWeights =
  (seed: string): VitWeights =>
  (name, shape) => {
    const values = new Float32Array(shapeSize(shape))
    if (name.endsWith('.bias')) return values
    if (name.includes('layernorm')) return values.fill(1)
    const [outputs = 1, inputs = 1] = shape
    const reach = name.endsWith('_embeddings') ? POSITION_SPREAD * Math.sqrt(3) : Math.sqrt(6 / (inputs + outputs))
    const rng = seededRng('initial-weights', seed, name)
    return values.map(() => reach * (2 * rng.uniform() - 1))
  }
