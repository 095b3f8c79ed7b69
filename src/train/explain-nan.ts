import { isPeertuneError } from '../base/errors.js'
import type { Trainer } from './trainer.js'

/** What a step says whose loss or gradients are no numbers. */
const NO_NUMBER = 'train/non-finite-'

/**
 * A trainer that asks the model when a step gives no number: `refuse` reads every weight and throws if one is to blame.
 * To look at them all at every start would take longer than the first step does.
 */
export const explainingNaN = (trainer: Trainer, refuse: () => Promise<void>): Trainer => ({
  ...trainer,
  async step(parameters, batch, options) {
    try {
      return await trainer.step(parameters, batch, options)
    } catch (error) {
      if (isPeertuneError(error) && error.code.startsWith(NO_NUMBER)) await refuse()
      throw error
    }
  }
})
