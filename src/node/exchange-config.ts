import type { MixingSpec } from '../base/federation.js'
import { type PeftPlan, specsOf } from '../base/peft-spec.js'
import { codecByName } from '../codec/registry.js'
import type { DistanceMeasure } from '../consensus/distance.js'
import { productDistance } from '../consensus/distance.js'
import type { ExchangeConfig } from '../consensus/exchange-types.js'
import type { ParameterSchema } from '../tensor/schema.js'

/** The part of an exchange's configuration that the federation has agreed on. */
export function mixingConfig(
  { codec, fraction, gamma, clip, localSteps, robust, momentum }: MixingSpec,
  peft: PeftPlan,
  schema: ParameterSchema
): Pick<ExchangeConfig, 'codec' | 'gamma' | 'clip' | 'measure' | 'localSteps' | 'robust' | 'outer'> {
  return {
    codec: codecByName(codec, { schema, ...(fraction === undefined ? {} : { fraction }) }),
    gamma,
    localSteps,
    measure: measureOf(peft, schema),
    ...(clip === undefined ? {} : { clip }),
    ...(robust === undefined ? {} : { robust }),
    ...(momentum?.kind === 'outer' ? { outer: momentum } : {})
  }
}

/** Adapters made of two trained factors are compared by their product, scaled as the model scales it. */
function measureOf(peft: PeftPlan, schema: ParameterSchema): DistanceMeasure {
  const lowRank = specsOf(peft).find((spec) => 'alpha' in spec)
  const { alpha, method } = lowRank ?? { alpha: 1, method: 'none' }
  return productDistance(schema, (rank) => (method === 'rslora' ? alpha / Math.sqrt(rank) : alpha / rank))
}
