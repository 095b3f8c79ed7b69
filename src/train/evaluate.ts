import type { Batch } from '../data/batch.js'
import type { Trainer } from './trainer.js'

export interface DatasetEvaluation {
  /** Mean cross entropy in nats over the labels that count. */
  readonly loss: number
  /** Share of them where the largest logit is the right one, in [0, 1]. */
  readonly accuracy: number
  /** Labels that count. */
  readonly count: number
}

/**
 * Every batch once, each label weighing the same whatever batch it is in. The parameters are those of the moment of
 * the call, whatever happens to the vector meanwhile. With no label that counts, loss and accuracy are NaN.
 */
export async function evaluateDataset(
  trainer: Pick<Trainer, 'evaluate'>,
  parameters: Float32Array,
  batches: Iterable<Batch>
): Promise<DatasetEvaluation> {
  const snapshot = parameters.slice()
  let lossSum = 0
  let correct = 0
  let count = 0
  for (const batch of batches) {
    const result = await trainer.evaluate(snapshot, batch)
    lossSum += result.lossSum
    correct += result.correct
    count += result.count
  }
  return { loss: lossSum / count, accuracy: correct / count, count }
}
