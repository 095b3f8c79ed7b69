import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { PeertuneError } from '../../../src/base/errors.js'
import { readImages } from '../../../src/data/images/images.js'
import { createDataset } from '../../../src/data/batches/dataset.js'
import { openDataset } from '../../../src/data/source.js'
import type { ImagesSpec } from '../../../src/data/spec.js'
import { temporaryFolder } from '../fixtures.js'

const TASK = { kind: 'image-classification', labels: ['day', 'night'] } as const
const model = (...shape: (number | string)[]) => ({ inputs: [{ name: 'pixel_values', shape: ['batch', ...shape] }] })

type Rgb = readonly [number, number, number]

/** A picture whose left half has one colour and whose right half another; PNG keeps them exactly. */
async function picture(left: Rgb, right: Rgb, { width = 4, height = 2 } = {}): Promise<Buffer> {
  const pixels = Buffer.alloc(width * height * 3)
  for (let i = 0; i < width * height; i++) pixels.set(i % width < width / 2 ? left : right, 3 * i)
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
}

async function folderOf(files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
  const folder = await temporaryFolder()
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return folder
}

const spec = (path: string, more: Partial<ImagesSpec> = {}): ImagesSpec => ({
  kind: 'images',
  path,
  seed: 's',
  heldOut: 0,
  ...more
})

describe('an image folder', () => {
  it('gives planes of pixels from 0 to 1, labelled by folder', async () => {
    const red = await picture([255, 0, 51], [0, 102, 255])
    const data = await openDataset(
      spec(await folderOf({ 'night/a.png': red, 'day/.hidden': 'x' })),
      TASK,
      model(3, 2, 4)
    )
    const { inputs, labels } = data.batches(1).next()
    expect(inputs.pixel_values!.shape).toEqual([1, 3, 2, 4])
    expect(labels.data[0]).toBe(1)
    const plane = (left: number, right: number) => [left, left, right, right, left, left, right, right]
    const expected = [...plane(1, 0), ...plane(0, 0.4), ...plane(0.2, 1)]
    expect(inputs.pixel_values!.data.length).toBe(24)
    for (const [i, value] of expected.entries()) expect(inputs.pixel_values!.data[i]).toBeCloseTo(value, 6)
    data.close?.()
  })

  it('takes off the mean and divides by the deviation of each channel', async () => {
    const path = await folderOf({ 'day/a.png': await picture([255, 0, 51], [255, 0, 51]) })
    const data = await openDataset(spec(path, { mean: [0.5, 0.25, 0.1], std: [0.5, 0.25, 0.2] }), TASK, model(3, 2, 4))
    const pixels = data.batches(1).next().inputs.pixel_values!.data
    // (1 - 0.5) / 0.5, (0 - 0.25) / 0.25, (0.2 - 0.1) / 0.2
    for (const [channel, value] of [1, -1, 0.5].entries()) expect(pixels[8 * channel + 3]).toBeCloseTo(value, 6)
  })

  it('brings pictures to the size of the model: stretched, cut or with bars; grey where it has one channel', async () => {
    const wide = await picture([255, 255, 255], [255, 255, 255], { width: 8, height: 4 })
    const path = await folderOf({ 'day/wide.jpg': await sharp(wide).jpeg({ quality: 100 }).toBuffer() })
    const open = async (fit: ImagesSpec['fit']) =>
      (await openDataset(spec(path, { fit: fit!, size: [4, 4] }), TASK, model(1, 'h', 'w'))).batches(1).next().inputs
        .pixel_values!
    for (const fit of ['stretch', 'cut'] as const) {
      const { shape, data } = await open(fit)
      expect(shape).toEqual([1, 1, 4, 4])
      expect([...data].every((pixel) => pixel > 0.97)).toBe(true)
    }
    const bars = [...(await open('bars')).data]
    expect(bars.slice(0, 4).every((pixel) => pixel < 0.03)).toBe(true)
    expect(bars.slice(4, 12).every((pixel) => pixel > 0.97)).toBe(true)
  })

  it('holds out by content: under other names the same pictures', async () => {
    const shades = await Promise.all(Array.from({ length: 30 }, (_, i) => picture([8 * i, 0, 0], [0, 8 * i, 9])))
    const held = async (name: (i: number) => string) => {
      const path = await folderOf(Object.fromEntries(shades.map((shade, i) => [`day/${name(i)}.png`, shade])))
      const data = await openDataset(spec(path, { heldOut: 0.3 }), TASK, model(3, 2, 4))
      return [...data.evaluation(1)].map(({ inputs }) => inputs.pixel_values!.data[0]!.toFixed(3)).sort()
    }
    const first = await held((i) => `${i}`)
    expect(first.length).toBeGreaterThan(2)
    expect(await held((i) => `z${99 - i}`)).toEqual(first)
  })

  it('names a broken picture; it is left out and counted only if told to', async () => {
    const good = await picture([1, 2, 3], [4, 5, 6])
    const path = await folderOf({ 'day/a.png': good, 'day/b.png': 'no picture', 'night/c.jpeg': good.subarray(0, 40) })
    await expect(openDataset(spec(path), TASK, model(3, 2, 4))).rejects.toMatchObject({
      code: 'data/bad-image',
      facts: { file: join(path, 'day/b.png') }
    })
    const data = await openDataset(spec(path, { badRows: 'skip' }), TASK, model(3, 2, 4))
    expect(data.summary).toMatchObject({ training: 1, skipped: 2, firstSkipped: expect.stringContaining('b.png') })
  })

  it('refuses what it cannot mean', async () => {
    const good = await picture([1, 2, 3], [4, 5, 6])
    const stranger = await folderOf({ 'dusk/a.png': good })
    await expect(openDataset(spec(stranger), TASK, model(3, 2, 4))).rejects.toMatchObject({
      code: 'data/unknown-class'
    })
    await expect(openDataset(spec(await folderOf({ 'day/a.txt': 'x' })), TASK, model(3, 2, 4))).rejects.toMatchObject({
      code: 'data/empty'
    })
    await expect(openDataset(spec(join(stranger, 'nowhere')), TASK, model(3, 2, 4))).rejects.toMatchObject({
      code: 'data/no-file'
    })
    const path = await folderOf({ 'day/a.png': good })
    await expect(openDataset(spec(path), TASK, model(3, 'h', 'w'))).rejects.toMatchObject({
      code: 'data/model-mismatch',
      hint: expect.stringContaining('size')
    })
    await expect(openDataset(spec(path), { kind: 'regression' }, model(3, 2, 4))).rejects.toMatchObject({
      code: 'data/wrong-task'
    })
  })

  it('says which package is missing', async () => {
    const path = await folderOf({ 'day/a.png': await picture([1, 2, 3], [4, 5, 6]) })
    const absent = () => Promise.reject(new PeertuneError('data/no-image-library', 'no sharp'))
    await expect(readImages(spec(path), TASK, model(3, 2, 4), {}, absent)).rejects.toMatchObject({
      code: 'data/no-image-library'
    })
    const grey = async () => async () => new Uint8Array(8).fill(51)
    const data = createDataset(await readImages(spec(path), TASK, model(1, 2, 4), {}, grey))
    expect(data.batches(1).next().inputs.pixel_values!.data[5]).toBeCloseTo(0.2, 6)
  })
})
