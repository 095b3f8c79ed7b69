import type { Batch } from '../data/batches/batch.js'
import { correlation, joinMoments, type Moments } from './moments.js'
import type { Trainer } from './trainer.js'

export interface DatasetEvaluation {
  /** Over the labels that count: mean cross entropy in nats; of a regression, mean squared error. */
  readonly loss: number
  /** Share of them where the largest logit is the right one, in [0, 1]; NaN in a regression. */
  readonly accuracy: number
  /** Pearson's correlation of predictions and labels, in [-1, 1]; of a regression alone. */
  readonly correlation?: number
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
  let moments: Moments | undefined
  for (const batch of batches) {
    const result = await trainer.evaluate(snapshot, batch)
    lossSum += result.lossSum
    correct += result.correct
    count += result.count
    if (result.moments !== undefined)
      moments = moments === undefined ? result.moments : joinMoments(moments, result.moments)
  }
  const loss = lossSum / count
  if (moments !== undefined) return { loss, accuracy: Number.NaN, correlation: correlation(moments), count }
  return { loss, accuracy: correct / count, count }
}
