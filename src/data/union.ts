import { PeertuneError } from '../base/errors.js'
import type { Batch, BatchTensor, Dataset } from './batch.js'
import { createDataset } from './dataset.js'

/**
 * Several datasets for one model as one: every training example of all of them, in one seeded order; the held-out
 * examples are those of the first. Throws `data/empty` when there is none.
 */
export function uniteDatasets(parts: readonly Dataset[], seed: string): Dataset {
  const [first] = parts
  if (first === undefined) throw new PeertuneError('data/empty', 'a union needs at least one data source')
  const training = parts.flatMap((part, which) => Array.from({ length: part.size }, (_, position) => ({ which, position })))
  const united = createDataset({
    training,
    heldOut: [],
    seed,
    collate: (examples) =>
      stackBatches(
        parts.flatMap((part, which) => {
          const own = examples.filter((example) => example.which === which)
          return own.length === 0 ? [] : [part.gather(own.map(({ position }) => position))]
        })
      )
  })
  return { ...united, evaluation: (batchSize) => first.evaluation(batchSize) }
}

/** Batches with the same inputs, one below the other: shapes differ in the first dimension only. */
export function stackBatches(batches: readonly Batch[]): Batch {
  const [first] = batches
  if (first === undefined) throw new PeertuneError('data/empty', 'no batch to stack')
  const inputs = Object.keys(first.inputs).map((name) => {
    const tensors = batches.map((batch) => batch.inputs[name]!)
    return [name, stackTensors(tensors)] as const
  })
  const labels = batches.map((batch) => batch.labels)
  return { inputs: Object.fromEntries(inputs), labels: { shape: stackedShape(labels), data: joinInts(labels) } }
}

const stackedShape = (tensors: readonly { readonly shape: readonly number[] }[]): number[] => [
  tensors.reduce((rows, { shape }) => rows + shape[0]!, 0),
  ...tensors[0]!.shape.slice(1)
]

function stackTensors(tensors: readonly BatchTensor[]): BatchTensor {
  const shape = stackedShape(tensors)
  const floats = tensors.filter((tensor) => tensor.type === 'float32')
  if (floats.length === 0)
    return { type: 'int64', shape, data: joinInts(tensors.filter((tensor) => tensor.type === 'int64')) }
  const data = new Float32Array(floats.reduce((size, tensor) => size + tensor.data.length, 0))
  let at = 0
  for (const tensor of floats) {
    data.set(tensor.data, at)
    at += tensor.data.length
  }
  return { type: 'float32', shape, data }
}

function joinInts(tensors: readonly { readonly data: Int32Array }[]): Int32Array {
  const data = new Int32Array(tensors.reduce((size, tensor) => size + tensor.data.length, 0))
  let at = 0
  for (const tensor of tensors) {
    data.set(tensor.data, at)
    at += tensor.data.length
  }
  return data
}
