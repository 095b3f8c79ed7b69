import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readIdx } from '../../../src/data/images/idx.js'
import { openDataset } from '../../../src/data/source.js'
import { hasShared, idx, SHARED, temporaryFile } from '../fixtures.js'

const model = { inputs: [{ name: 'pixel_values', shape: ['batch', 1, 2, 3] }] }
const task = { kind: 'image-classification', labels: ['a', 'b'] } as const

describe('IDX files', () => {
  it('become grey images from 0 to 1', async () => {
    const images = await temporaryFile(
      gzipSync(
        idx(
          [3, 2, 3],
          Array.from({ length: 18 }, (_, i) => i * 15)
        )
      ),
      'images.gz'
    )
    const labels = await temporaryFile(idx([3], [0, 1, 1]), 'labels')
    const data = await openDataset({ kind: 'idx', images, labels, testSamples: 1, seed: 's' }, task, model)
    expect(data.size).toBe(2)
    const [test] = [...data.evaluation(1)]
    const { inputs, labels: trained } = data.batches(2).next()
    const pixels = [...test!.inputs.pixel_values!.data, ...inputs.pixel_values!.data].toSorted((a, b) => a - b)
    expect(pixels).toEqual(Array.from({ length: 18 }, (_, i) => Math.fround((i * 15) / 255)))
    expect([...test!.labels.data, ...trained.data].toSorted()).toEqual([0, 1, 1])
  })

  it('are refused by name when they are something else', async () => {
    const open = async (images: Uint8Array, labels: Uint8Array, name = 'x') =>
      openDataset(
        {
          kind: 'idx',
          images: await temporaryFile(images, name),
          labels: await temporaryFile(labels, 'l'),
          testSamples: 0,
          seed: 's'
        },
        task,
        model
      )
    const bad = expect.objectContaining({ code: 'data/bad-idx' })
    const good = idx([1, 2, 3], [1, 2, 3, 4, 5, 6])
    await expect(open(good.subarray(0, 20), idx([1], [0]))).rejects.toEqual(bad)
    await expect(open(idx([6], [1, 2, 3, 4, 5, 6]), idx([1], [0]))).rejects.toEqual(bad)
    await expect(open(good, idx([2], [0, 1]))).rejects.toEqual(bad)
    await expect(open(good, idx([1], [7]))).rejects.toEqual(bad)
    await expect(open(good, idx([1], [0]), 'x.gz')).rejects.toEqual(bad)
  })

  it.skipIf(!hasShared('data/mnist'))('reads MNIST (needs ../shared/data)', async () => {
    const images = await readIdx(join(SHARED, 'data/mnist/t10k-images-idx3-ubyte.gz'), 3)
    expect(images.shape).toEqual([10_000, 28, 28])
  })
})
