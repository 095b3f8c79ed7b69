import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Batch, IGNORED_LABEL } from '../../../src/data/batches/batch.js'
import type { Example } from '../../../src/data/batches/collate.js'
import { createDataset } from '../../../src/data/batches/dataset.js'

const collate = (examples: readonly Example[], rows: number): Batch => ({
  inputs: {},
  labels: { shape: [rows], data: Int32Array.from({ length: rows }, (_, i) => examples[i]?.label ?? IGNORED_LABEL) }
})
const numbers = (size: number, from = 0) => Array.from({ length: size }, (_, i) => from + i)
const examples = (size: number, from?: number) =>
  numbers(size, from).map((label) => ({ values: new Int32Array(), label }))
const open = (size: number, seed = 'a', heldOut = 0) =>
  createDataset({ training: examples(size), heldOut: examples(heldOut, 1000), seed, collate })

describe('the in-memory dataset', () => {
  it('hands out every example once per epoch, whatever the batch size', () => {
    const stream = open(7).batches(3)
    const seen = Array.from({ length: 14 }, () => [...stream.next().labels.data]).flat()
    for (let epoch = 0; epoch < 6; epoch++) {
      const part = seen.slice(7 * epoch, 7 * epoch + 7)
      expect(part.toSorted((a, b) => a - b)).toEqual(numbers(7))
    }
    expect(seen.slice(0, 7)).not.toEqual(seen.slice(7, 14))
  })

  it('fills a batch larger than the whole data set', () => {
    const batch = open(3).batches(8).next()
    expect(batch.labels.shape).toEqual([8])
    expect([...batch.labels.data].every((label) => label >= 0)).toBe(true)
  })

  it('orders an epoch by seed and epoch alone', () => {
    const first = (seed: string) => [...open(50, seed).batches(50).next().labels.data]
    expect(first('a')).toEqual(first('a'))
    expect(first('a')).not.toEqual(first('b'))
    const bySmallBatches = open(50).batches(5)
    expect(Array.from({ length: 10 }, () => [...bySmallBatches.next().labels.data]).flat()).toEqual(first('a'))
  })

  it('continues from any cursor exactly where the stream stood', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 17 }),
        fc.integer({ min: 0, max: 30 }),
        (size, batchSize, steps) => {
          const stream = open(size).batches(batchSize)
          for (let i = 0; i < steps; i++) stream.next()
          const resumed = open(size).batches(batchSize, JSON.parse(JSON.stringify(stream.cursor())))
          for (let i = 0; i < 5; i++) {
            expect(resumed.next()).toEqual(stream.next())
            expect(resumed.cursor()).toEqual(stream.cursor())
          }
        }
      )
    )
  })

  it('evaluates held-out examples once and pads the last batch with ignored rows', () => {
    const batches = [...open(3, 'a', 5).evaluation(4)].map((batch) => [...batch.labels.data])
    expect(batches).toEqual([
      [1000, 1001, 1002, 1003],
      [1004, IGNORED_LABEL, IGNORED_LABEL, IGNORED_LABEL]
    ])
    expect([...open(3).evaluation(4)]).toEqual([])
  })

  it('refuses no examples, no batch size and a cursor of other data', () => {
    expect(() => open(0)).toThrow(expect.objectContaining({ code: 'data/empty' }))
    expect(() => open(3).batches(0)).toThrow(expect.objectContaining({ code: 'data/bad-batch-size' }))
    for (const cursor of [
      { epoch: 0, position: 4 },
      { epoch: -1, position: 0 },
      { epoch: 0.5, position: 0 }
    ])
      expect(() => open(3).batches(1, cursor)).toThrow(expect.objectContaining({ code: 'data/bad-cursor' }))
  })
})
