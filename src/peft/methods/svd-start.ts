import { PeertuneError } from '../../base/errors.js'
import { type Rng, seededRng } from '../../base/rng.js'
import type { Factors, LowRankModule } from './lora.js'
import { type LinearView, linearView } from '../method/merge-target.js'
import type { BaseModel } from '../method/method.js'
import { topSingular } from '../method/svd.js'

/**
 * Where low-rank factors start at the base weight's largest singular values: A = sqrt(S / scale) V^T and
 * B = U sqrt(S / scale), so that scale * B A is the best approximation of W of that rank (PiSSA, Meng et al. 2024,
 * https://arxiv.org/abs/2404.02948; FeDeRA, Yan et al. 2024, https://arxiv.org/abs/2404.18848). The same bits on every
 * peer. Throws `config/rank-too-large`.
 */
export function svdStart(module: LowRankModule, base: BaseModel, seed: string): Factors {
  const { path, rank, inFeatures, outFeatures } = module
  if (rank > Math.min(inFeatures, outFeatures))
    throw new PeertuneError('config/rank-too-large', `${path} has fewer than ${rank} singular values`, {
      facts: { rank, path, inFeatures, outFeatures },
      hint: 'lower the rank, or leave this module out'
    })
  const view = linearView(module, base.read(module.weight.initializer))
  return singularFactors(view, module, seededRng(seed, 'svd', path)).factors
}

export interface SingularFactors {
  readonly factors: Factors
  /** Sum of squares of the singular values that the factors have. */
  readonly energy: number
}

/** A = sqrt(S / scale) V^T and B = U sqrt(S / scale) of the largest singular values of a matrix. */
export function singularFactors(
  view: LinearView,
  { rank, scale, inFeatures, outFeatures }: Pick<LowRankModule, 'rank' | 'scale' | 'inFeatures' | 'outFeatures'>,
  rng: Rng
): SingularFactors {
  const { values, left, right } = topSingular(view, { inFeatures, outFeatures, rank, rng })
  const a = new Float32Array(rank * inFeatures)
  const b = new Float32Array(outFeatures * rank)
  for (let r = 0; r < rank; r++) {
    const root = Math.sqrt(values[r]! / scale)
    for (let i = 0; i < inFeatures; i++) a[r * inFeatures + i] = root * right[r * inFeatures + i]!
    for (let o = 0; o < outFeatures; o++) b[o * rank + r] = root * left[r * outFeatures + o]!
  }
  return { factors: { a, b }, energy: values.reduce((sum, value) => sum + value * value, 0) }
}
