import type { CoreSpec, LoraSpec } from '../../base/peft-spec.js'
import type { LowRankModule } from './lora.js'
import { isMeantBy } from '../../base/name-pattern.js'
import { type LinearModule, matchModules } from '../method/target.js'

/** The targets with the rank each gets and the scale that follows from it, as PEFT does. */
export function rankedModules(spec: LoraSpec | CoreSpec, linears: readonly LinearModule[]): LowRankModule[] {
  const ranks = 'ranks' in spec ? Object.entries(spec.ranks ?? {}) : []
  return matchModules(linears, spec.targets).map((module) => {
    const rank = ranks.find(([pattern]) => isMeantBy(pattern, module.path))?.[1] ?? spec.rank
    const scale = spec.alpha / (spec.method === 'rslora' ? Math.sqrt(rank) : rank)
    return { ...module, rank, scale }
  })
}
