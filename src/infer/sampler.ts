import type { Rng } from '../base/rng.js'

/** How the next token is drawn. */
export interface SamplingOptions {
  /** Logits are divided by it; 0 takes the likeliest token. */
  readonly temperature: number
  /** Only so many of the likeliest tokens; 0: all. */
  readonly topK: number
  /** Only the likeliest tokens that have this probability together, in (0, 1]. */
  readonly topP: number
}

/** The largest logit, the first of equals, as torch.argmax. */
export function likeliest(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if ((logits[id] as number) > (logits[best] as number)) best = id
  return best
}

/**
 * float32[vocabulary] -> probabilities, in the order of Hugging Face's generate: temperature, then the k likeliest, then
 * the nucleus (Holtzman et al., https://arxiv.org/abs/1904.09751). The likeliest token always stays.
 */
export function probabilities(logits: Float32Array, { temperature, topK, topP }: SamplingOptions): Float64Array {
  const order = Uint32Array.from(logits, (_, id) => id).sort((a, b) => (logits[b] as number) - (logits[a] as number))
  const kept = order.subarray(0, topK === 0 ? order.length : Math.min(topK, order.length))
  const top = logits[kept[0] ?? 0] as number
  const weights = Float64Array.from(kept, (id) => Math.exp(((logits[id] as number) - top) / temperature))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  let nucleus = 0
  for (let before = 0; nucleus < weights.length && (nucleus === 0 || before < topP * total); nucleus++)
    before += weights[nucleus] as number
  const rest = weights.subarray(0, nucleus).reduce((sum, weight) => sum + weight, 0)
  const result = new Float64Array(logits.length)
  for (let rank = 0; rank < nucleus; rank++) result[kept[rank] as number] = (weights[rank] as number) / rest
  return result
}

/** Draws one token after the other. */
export function createSampler(options: SamplingOptions, rng: Rng): (logits: Float32Array) => number {
  if (options.temperature === 0) return likeliest
  return (logits) => {
    const chances = probabilities(logits, options)
    let left = rng.uniform()
    let last = 0
    for (const [id, chance] of chances.entries()) {
      if (chance === 0) continue
      last = id
      left -= chance
      if (left < 0) return id
    }
    return last
  }
}
