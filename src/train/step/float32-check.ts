import type { Trainer } from '../trainer.js'

/**
 * A trainer whose first step is computed a second time by `openReference`'s, which is then closed: the step's result says
 * how well the two gradients agree.
 */
export function withFloat32Check(trainer: Trainer, openReference: () => Promise<Trainer>): Trainer {
  let checked = false
  return {
    ...trainer,
    async step(parameters, batch, options) {
      const result = await trainer.step(parameters, batch, options)
      if (checked) return result
      checked = true
      const reference = await openReference()
      try {
        const { gradients } = await reference.step(parameters, batch, options)
        return { ...result, float32Cosine: cosine(result.gradients, gradients) }
      } finally {
        await reference.close()
      }
    }
  }
}

/** Of the angle between two vectors; 1 where both are 0. */
export function cosine(a: Float32Array, b: Float32Array): number {
  let [product, ownSquare, otherSquare] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    const [own, other] = [a[i] as number, b[i] as number]
    product += own * other
    ownSquare += own * own
    otherSquare += other * other
  }
  if (ownSquare === 0 && otherSquare === 0) return 1
  return ownSquare === 0 || otherSquare === 0 ? 0 : product / Math.sqrt(ownSquare * otherSquare)
}
