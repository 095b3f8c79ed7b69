import type { FederationManifest } from '../../base/federation.js'
import { isPrivate, type PeftPlan, specsOf } from '../../base/peft-spec.js'
import { codecByName } from '../../codec/registry.js'
import type { DistanceMeasure } from '../../consensus/rules/distance.js'
import { productDistance } from '../../consensus/rules/distance.js'
import type { ExchangeConfig } from '../../consensus/exchange/types.js'
import { createLayouts } from '../../consensus/rules/layouts.js'
import { productAbove } from '../../consensus/rules/product-rule.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { mostSlots } from '../config/own-plan.js'

/** The part of an exchange's configuration that the federation has agreed on, and that plain data cannot say. */
export function mixingConfig(
  manifest: Pick<FederationManifest, 'mixing' | 'peft' | 'peerRanks'>,
  start: SharedStart
): Pick<
  ExchangeConfig,
  'codec' | 'gamma' | 'clip' | 'maxPull' | 'measure' | 'mix' | 'localSteps' | 'robust' | 'outer' | 'layouts'
> {
  const { codec, fraction, gamma, clip, maxPull, localSteps, robust, momentum, productAbove: above } = manifest.mixing
  const { peft } = manifest
  const { schema } = start
  const measure = measureOf(peft, schema)
  return {
    codec: codecByName(codec, { schema, ...(fraction === undefined ? {} : { fraction }) }),
    gamma,
    localSteps,
    measure,
    ...(above === undefined ? {} : { mix: productAbove(schema, measure, above) }),
    ...(clip === undefined ? {} : { clip }),
    ...(maxPull === undefined ? {} : { maxPull }),
    ...(robust === undefined ? {} : { robust }),
    ...(momentum?.kind === 'outer' ? { outer: momentum } : {}),
    ...layoutsConfig(manifest, start)
  }
}

/** Adapters made of two trained factors are compared by their product, scaled as the model scales it. */
const measureOf = (peft: PeftPlan, schema: ParameterSchema): DistanceMeasure =>
  productDistance(schema, (rank) => scaleOf(peft, rank))

/** What multiplies the product of factors of that rank. */
function scaleOf(peft: PeftPlan, rank: number): number {
  for (const spec of specsOf(peft)) {
    if (!('alpha' in spec) || isPrivate(spec)) continue
    return spec.method === 'rslora' ? spec.alpha / Math.sqrt(rank) : spec.alpha / rank
  }
  return 1 / rank
}

/** What we share of our own plan, and the common start of it. */
export interface SharedStart {
  readonly schema: ParameterSchema
  /** float32[schema.size] */
  readonly reference: Float32Array
}

/** How peers of other ranks are met, where the federation has any. */
function layoutsConfig(
  { peft, peerRanks, mixing: { codec, fraction } }: Pick<FederationManifest, 'mixing' | 'peft' | 'peerRanks'>,
  { schema, reference }: SharedStart
): Pick<ExchangeConfig, 'layouts' | 'measure'> {
  const most = peerRanks === undefined ? undefined : mostSlots(peft)
  if (peerRanks === undefined || most === undefined) return {}
  const codecFor = (part: ParameterSchema) =>
    codecByName(codec, { schema: part, ...(fraction === undefined ? {} : { fraction }) })
  const scale = scaleOf(peft, most)
  return {
    measure: productDistance(schema, () => scale),
    layouts: createLayouts({ rule: peerRanks, schema, reference, most, codecFor, scale })
  }
}
