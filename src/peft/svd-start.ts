import { PeertuneError } from '../base/errors.js'
import { seededRng } from '../base/rng.js'
import type { Factors, LowRankModule } from './lora.js'
import { linearView } from './merge-target.js'
import type { BaseModel } from './method.js'
import { topSingular } from './svd.js'

/**
 * Where low-rank factors start at the base weight's largest singular values: A = sqrt(S / scale) V^T and
 * B = U sqrt(S / scale), so that scale * B A is the best approximation of W of that rank (PiSSA, Meng et al. 2024,
 * https://arxiv.org/abs/2404.02948; FeDeRA, Yan et al. 2024, https://arxiv.org/abs/2404.18848). The same bits on every
 * peer. Throws `config/rank-too-large`.
 */
export function svdStart(module: LowRankModule, base: BaseModel, seed: string): Factors {
  const { path, rank, scale, inFeatures, outFeatures } = module
  if (rank > Math.min(inFeatures, outFeatures))
    throw new PeertuneError('config/rank-too-large', `${path} has fewer than ${rank} singular values`, {
      facts: { rank, path, inFeatures, outFeatures },
      hint: 'lower the rank, or leave this module out'
    })
  const view = linearView(module, base.read(module.weight.initializer))
  const rng = seededRng(seed, 'svd', path)
  const { values, left, right } = topSingular(view, { inFeatures, outFeatures, rank, rng })
  const a = new Float32Array(rank * inFeatures)
  const b = new Float32Array(outFeatures * rank)
  for (let r = 0; r < rank; r++) {
    const root = Math.sqrt(values[r]! / scale)
    for (let i = 0; i < inFeatures; i++) a[r * inFeatures + i] = root * right[r * inFeatures + i]!
    for (let o = 0; o < outFeatures; o++) b[o * rank + r] = root * left[r * outFeatures + o]!
  }
  return { a, b }
}
