import { PeertuneError } from '../../base/errors.js'
import { type Batch, type BatchTensor, countedLabels, IGNORED_LABEL } from '../../data/batches/batch.js'
import { axpy } from '../../tensor/linear.js'
import { joinMoments, type Moments } from '../moments.js'
import type { Trainer } from '../trainer.js'

/**
 * Gradient accumulation: a batch goes through in parts of `rows` examples, so that the activations of one part are in
 * memory and not those of the whole. Loss and gradients are the whole batch's, each label weighing the same. The last
 * part is filled up with ignored examples, so there is one graph. Throws `config/wrong-value`.
 */
export function inMicroBatches(trainer: Trainer, rows: number): Trainer {
  if (!Number.isInteger(rows) || rows < 1)
    throw new PeertuneError('config/wrong-value', `microBatch: expected a positive whole number, got ${rows}`)
  return {
    description: trainer.description,
    async step(parameters, batch, options = {}) {
      const parts = partsOf(batch, rows)
      const counts = parts.map(countedLabels)
      const total = Math.max(1, sum(counts))
      let loss = 0
      let gradients: Float32Array | undefined
      for (const [index, part] of parts.entries()) {
        const weight = (counts[index] as number) / total
        if (weight === 0 && gradients !== undefined) continue
        const result = await trainer.step(parameters, part, options)
        loss += weight * result.loss
        gradients = addWeighted(gradients, result.gradients, weight)
      }
      return { loss, gradients: gradients ?? new Float32Array(parameters.length) }
    },
    async evaluate(parameters, batch, options = {}) {
      const totals = { lossSum: 0, count: 0, correct: 0 }
      let joined: Moments | undefined
      for (const part of partsOf(batch, rows)) {
        const { lossSum, count, correct, moments } = await trainer.evaluate(parameters, part, options)
        totals.lossSum += lossSum
        totals.count += count
        totals.correct += correct
        if (moments !== undefined) joined = joined === undefined ? moments : joinMoments(joined, moments)
      }
      return joined === undefined ? totals : { ...totals, moments: joined }
    },
    close: () => trainer.close()
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

function addWeighted(total: Float32Array | undefined, gradients: Float32Array, weight: number): Float32Array {
  if (total === undefined) return gradients.map((gradient) => weight * gradient)
  axpy(weight, gradients, total)
  return total
}

/** Parts of `rows` examples; a batch that is no larger is its own only part. */
function partsOf(batch: Batch, rows: number): Batch[] {
  const size = batch.labels.shape[0] ?? 0
  if (size <= rows) return [batch]
  return Array.from({ length: Math.ceil(size / rows) }, (_, index) => rowsOf(batch, index * rows, rows))
}

/** Examples from `start` on; beyond the last, the first again with labels that do not count. */
function rowsOf({ inputs, labels }: Batch, start: number, rows: number): Batch {
  const size = labels.shape[0] as number
  const cut = <T extends BatchTensor['data']>(data: T, make: (length: number) => T, fill?: number): T => {
    const width = data.length / size
    const result = make(rows * width)
    result.set(data.subarray(start * width, (start + rows) * width))
    for (let row = size - start; row < rows; row++)
      if (fill === undefined) result.set(data.subarray(0, width), row * width)
      else result.fill(fill, row * width, (row + 1) * width)
    return result
  }
  const tensor = (whole: BatchTensor): BatchTensor => {
    const shape = [rows, ...whole.shape.slice(1)]
    return whole.type === 'float32'
      ? { ...whole, shape, data: cut(whole.data, (length) => new Float32Array(length)) }
      : { ...whole, shape, data: cut(whole.data, (length) => new Int32Array(length)) }
  }
  return {
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, whole]) => [name, tensor(whole)])),
    labels: {
      shape: [rows, ...labels.shape.slice(1)],
      data:
        labels.data instanceof Float32Array
          ? cut(labels.data, (length) => new Float32Array(length), Number.NaN)
          : cut(labels.data, (length) => new Int32Array(length), IGNORED_LABEL)
    }
  }
}
