import { PeertuneError } from '../../base/errors.js'
import {
  alie,
  type Attack as AttackFormula,
  dissensus,
  gaussianNoise,
  gradientAssembly,
  innerProduct,
  mimic
} from './attacks.js'
import { factorsOf } from '../../tensor/factors.js'
import type { ParameterSchema } from '../../tensor/schema.js'

/** What the worst liar knows: everything. Vectors are live, float32[size], read only. */
export interface Insight {
  /** The common start. */
  readonly reference: Float32Array
  readonly schema: ParameterSchema | undefined
  /** Liars in all. */
  readonly liars: number
  /** Of all honest peers. */
  honest(): readonly Float32Array[]
  parametersOf(peer: number): Float32Array
}

export type OmniscientAttack = 'ipm' | 'alie' | 'dissensus' | 'mimic' | 'gaussian' | 'gradient-assembly'

/** The formula by name, with the strength of its paper. Throws `config/bad-scenario` where there are no factors to assemble. */
export function omniscientAttack(attack: OmniscientAttack, { schema }: Pick<Insight, 'schema'>): AttackFormula {
  switch (attack) {
    case 'ipm':
      return innerProduct()
    case 'alie':
      return alie()
    case 'dissensus':
      return dissensus()
    case 'mimic':
      return mimic()
    case 'gaussian':
      return gaussianNoise()
    case 'gradient-assembly': {
      const pairs = schema === undefined ? [] : factorsOf(schema).pairs
      if (pairs.length > 0) return gradientAssembly(pairs)
      throw new PeertuneError('config/bad-scenario', 'attackers: gradient-assembly needs a method with factors', {
        facts: { path: 'attackers' },
        hint: 'train one of the LoRA family'
      })
    }
  }
}
