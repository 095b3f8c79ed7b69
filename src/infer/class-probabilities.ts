export interface ClassProbability {
  readonly label: string
  /** In [0, 1]; those of one example sum to 1. */
  readonly probability: number
}

/** Softmax of one row of logits, the likeliest label first; labels beyond those named are numbered, as PyTorch has them. */
export function classProbabilities(logits: Float32Array, labels: readonly string[]): ClassProbability[] {
  const top = logits.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY)
  const weights = Float64Array.from(logits, (value) => Math.exp(value - top))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return Array.from(weights, (weight, index) => ({
    label: labels[index] ?? String(index),
    probability: weight / total
  })).sort((a, b) => b.probability - a.probability)
}
