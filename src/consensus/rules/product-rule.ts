import type { ParameterSchema } from '../../tensor/schema.js'
import type { DistanceMeasure } from './distance.js'
import { type MixingRule, pairwiseMean } from './mixing.js'
import { mixProducts } from './nested-mixing.js'

/**
 * The pair average, of products in place of factors where those leave out too much: when `crossShare` of the measure is
 * above `above`. After many local steps the mean of factors is far from the mean of what they do (0.2 of it at 200 steps in
 * between, and 0.003 at 10); before that, the truncation of products only costs time and the network's mean. Both sides
 * measure the same pair of vectors and so decide alike.
 */
export const productAbove =
  (schema: ParameterSchema, measure: DistanceMeasure, above: number): MixingRule =>
  (input) => {
    const { own, partner, ownWeight, partnerWeight, gamma } = input
    const { crossShare = 0 } = measure(own, partner)
    if (!(crossShare > above)) return pairwiseMean(input)
    const rho = (gamma * partnerWeight) / (ownWeight + partnerWeight)
    return mixProducts({ vector: own, schema }, { vector: partner, schema }, rho).increment
  }
