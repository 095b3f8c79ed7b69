import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { Batch, BatchCursor, BatchStream, DataSummary, Dataset } from './batch.js'
import type { Example } from './collate.js'

/** Examples by place, made when their turn comes. An array is one. */
export interface Examples {
  readonly length: number
  /** Of a place below `length`. */
  at(index: number): Example | undefined
}

export interface DatasetParts {
  readonly training: Examples
  /** May be empty: then `evaluation` yields nothing. */
  readonly heldOut: Examples
  /** Seed of the order of every epoch. */
  readonly seed: string
  /**
   * Puts at most `rows` examples into one batch of exactly `rows` rows. Rows without an example carry harmless
   * inputs and labels of IGNORED_LABEL.
   */
  readonly collate: (examples: readonly Example[], rows: number) => Batch
  readonly summary?: DataSummary
  readonly close?: () => void
}

/**
 * A dataset of examples by place. The order of an epoch is a shuffle seeded by (seed, epoch) alone; a batch that an epoch
 * cannot fill goes on with the next one, so every example is seen once per epoch and every batch is full.
 * Throws `data/empty`, `data/bad-batch-size`, `data/bad-cursor`.
 */
export function createDataset(parts: DatasetParts): Dataset {
  const { training, heldOut, seed, collate } = parts
  if (training.length === 0)
    throw new PeertuneError('data/empty', 'the data source holds no training example', {
      hint: 'a peer needs at least one example of its own'
    })
  return {
    size: training.length,
    batches(batchSize, start = { epoch: 0, position: 0 }) {
      checkBatchSize(batchSize)
      checkCursor(start, training.length)
      return openStream(training, batchSize, start, seed, collate)
    },
    *evaluation(batchSize) {
      checkBatchSize(batchSize)
      for (let first = 0; first < heldOut.length; first += batchSize)
        yield collate(taken(heldOut, first, Math.min(first + batchSize, heldOut.length)), batchSize)
    },
    ...(parts.summary && { summary: parts.summary }),
    ...(parts.close && { close: parts.close })
  }
}

const taken = (examples: Examples, from: number, to: number): Example[] =>
  Array.from({ length: to - from }, (_, i) => examples.at(from + i)!)

/** Indices of the training examples in the order of `epoch`: a Fisher-Yates shuffle, 4 bytes an example. */
function epochOrder(size: number, seed: string, epoch: number): Uint32Array {
  const rng = seededRng('epoch', seed, epoch)
  const order = Uint32Array.from({ length: size }, (_, i) => i)
  for (let i = size - 1; i > 0; i--) {
    const j = rng.integer(i + 1)
    const held = order[i]!
    order[i] = order[j]!
    order[j] = held
  }
  return order
}

function openStream(
  examples: Examples,
  batchSize: number,
  start: BatchCursor,
  seed: string,
  collate: DatasetParts['collate']
): BatchStream {
  let { epoch, position } = start
  let order = epochOrder(examples.length, seed, epoch)
  const take = (): Example => {
    if (position === examples.length) {
      epoch += 1
      position = 0
      order = epochOrder(examples.length, seed, epoch)
    }
    return examples.at(order[position++]!)!
  }
  return {
    next: () => collate(Array.from({ length: batchSize }, take), batchSize),
    cursor: () => ({ epoch, position })
  }
}

function checkBatchSize(batchSize: number): void {
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new PeertuneError('data/bad-batch-size', `batch size ${batchSize} is not a positive whole number`, {
      facts: { got: batchSize }
    })
}

function checkCursor({ epoch, position }: BatchCursor, size: number): void {
  const whole = Number.isInteger(epoch) && Number.isInteger(position) && epoch >= 0 && position >= 0
  if (!whole || position > size)
    throw new PeertuneError('data/bad-cursor', `no position ${position} in epoch ${epoch} of ${size} examples`, {
      facts: { epoch, position, size },
      hint: 'the data has changed since the checkpoint was written; start with a fresh data directory'
    })
}
