import { open, readdir, truncate } from 'node:fs/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { refuseNonFiniteOnce } from '../../../src/node/host/finite-record.js'
import type { Weight } from '../../../src/onnx/graph/weight.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()
/** Elements: 32 MB, from which on it is worth a file; and a megabyte less one element, over in the middle of a piece. */
const [BIG, SMALL] = [2 ** 23, 2 ** 18 - 1]

const weightOf = (name: string, offset: number, elements: number): Weight => ({
  name,
  module: name,
  slot: 'weight',
  transposed: false,
  initializer: {
    name,
    type: 'float32',
    shape: [elements],
    data: { kind: 'external', location: 'w', offset: 4 * offset, length: 4 * elements }
  }
})

/** Zeros, whatever was there. */
async function clear(): Promise<void> {
  await folder.write('w', '')
  await truncate(folder.at('w'), 4 * (BIG + SMALL))
}

async function put(index: number, value: number): Promise<void> {
  const file = await open(folder.at('w'), 'r+')
  await file.write(new Uint8Array(Float32Array.of(value).buffer), 0, 4, 4 * index)
  await file.close()
}

const check = (sha256: string, weights: readonly Weight[]): Promise<void> =>
  refuseNonFiniteOnce(weights, { sha256, weightsDir: folder.at('known'), externalDir: folder.root })

describe('weights that are no numbers', () => {
  const [big, small] = [weightOf('big', 0, BIG), weightOf('small', BIG, SMALL)]
  beforeEach(clear)

  it.each([
    ['NaN', Number.NaN, big, 0, 5 * 2 ** 18 + 77],
    ['Infinity', Number.POSITIVE_INFINITY, big, 0, BIG - 1],
    ['-Infinity', Number.NEGATIVE_INFINITY, small, BIG, SMALL - 1]
  ])('%s is found wherever it is, by weight and index', async (text, value, { name }, offset, index) => {
    await put(offset + index, value)
    await expect(check('a', [big, small])).rejects.toMatchObject({
      code: 'onnx/not-finite',
      message: `weight ${name}: expected finite numbers, got ${text}`,
      facts: { name, index }
    })
    expect(await readdir(folder.root)).toEqual(['w'])
  })

  it('the largest and the smallest float32 are numbers', async () => {
    await put(17, 3.4028234663852886e38)
    await put(18, -1.401298464324817e-45)
    await check('a', [big, small])
  })

  it('of a big model is remembered that there are none, by its hash; a small one is read each time', async () => {
    await check('a', [big])
    await check('b', [small])
    expect(await readdir(folder.at('known'))).toEqual(['a.finite'])
    await put(3, Number.NaN)
    await put(BIG + 3, Number.NaN)
    await check('a', [big])
    await expect(check('c', [big])).rejects.toMatchObject({ facts: { name: 'big', index: 3 } })
    await expect(check('b', [small])).rejects.toMatchObject({ facts: { name: 'small', index: 3 } })
  })
})
