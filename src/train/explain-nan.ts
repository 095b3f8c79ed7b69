import type { Trainer } from './trainer.js'

/**
 * A trainer that asks why when a loss is no number, once: `refuse` reads all of the model and throws if that is what is
 * wrong. Looking at every weight at every start would take longer than the first step does.
 */
export function explainingNaN(trainer: Trainer, refuse: () => Promise<void>): Trainer {
  let asked = false
  return {
    ...trainer,
    async step(parameters, batch, options) {
      const result = await trainer.step(parameters, batch, options)
      if (Number.isFinite(result.loss) || asked) return result
      asked = true
      await refuse()
      return result
    }
  }
}
