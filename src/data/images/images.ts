import { readdir, readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { sha256Hex } from '../../base/bytes.js'
import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import type { TaskSpec } from '../../base/federation.js'
import { type Collection, chooseHeldOut } from '../splits/choose.js'
import { type Example, imageCollator, imageInputOf, type ModelInputs } from '../batches/collate.js'
import { contentKey } from '../splits/content-key.js'
import type { DatasetParts, Examples } from '../batches/dataset.js'
import { orClosed, reading, statFile } from '../formats/files.js'
import { createNumberList } from '../formats/number-list.js'
import type { OpenOptions } from '../formats/progress.js'
import type { ImagesSpec } from '../spec.js'
import { createSpool, type Spool } from '../formats/spool.js'

/** Files of one folder tree. */
const MAX_IMAGES = 10_000_000
/** Bytes of one image file. */
const MAX_IMAGE_BYTES = 64 * 1024 * 1024
/** Pixels of one image as it is stored: a small file may unpack to any size. */
const MAX_PIXELS = 100_000_000
/** Images decoded at once, each in a thread of the library. */
const DECODING = 4
const IMAGE_FILES = ['.jpg', '.jpeg', '.png']

type ImageTask = Extract<TaskSpec, { kind: 'image-classification' }>
type Shape = readonly [number, number, number]

/** What is asked of the library that decodes: bytes of a JPEG or PNG file -> uint8[height, width, channel]. */
export type DecodeImage = (file: Uint8Array, shape: Shape, fit: NonNullable<ImagesSpec['fit']>) => Promise<Uint8Array>

/**
 * A folder of folders of images as a dataset. Each image is decoded once, brought to the model's size and kept as bytes in
 * a spool, because a batch is made without waiting and a decoder must be waited for. Pixels go from 0 to 1, then
 * (pixel - mean) / std by channel. Throws `data/no-image-library`, `data/unknown-class`, `data/bad-image`,
 * `data/model-mismatch`, `data/empty`.
 */
export async function readImages(
  spec: ImagesSpec,
  task: ImageTask,
  model: ModelInputs,
  options: OpenOptions = {},
  load: () => Promise<DecodeImage> = loadSharp
): Promise<DatasetParts> {
  const shape = imageShapeOf(model, spec)
  const inputName = imageInputOf(model, shape)
  const decode = await load()
  const main = await decodeFolder(spec.path, { spec, task, shape, decode, options })
  return orClosed(main, async () => {
    const { testPath } = spec
    const test = testPath === undefined ? main : await decodeFolder(testPath, { spec, task, shape, decode, options })
    const { training, heldOut, summary } = chooseHeldOut(main, test, { ...spec, skipped: main.skipped })
    return {
      training: pick(main, training),
      heldOut: pick(test, heldOut),
      seed: spec.seed,
      collate: imageCollator(inputName, shape),
      summary,
      close() {
        main.close()
        if (test !== main) test.close()
      }
    }
  })
}

export interface ImageFiles {
  /** The model's input, and what it takes of one image: [channel, height, width]. */
  readonly inputName: string
  readonly shape: Shape
  /** float32[channel * height * width]. Throws `data/bad-image`, `data/no-file`. */
  read(path: string): Promise<Float32Array>
}

/** Single image files, prepared as `readImages` does for training. */
export async function openImageFiles(
  spec: Pick<ImagesSpec, 'size' | 'fit' | 'mean' | 'std'>,
  model: ModelInputs,
  load: () => Promise<DecodeImage> = loadSharp
): Promise<ImageFiles> {
  const shape = imageShapeOf(model, spec)
  const inputName = imageInputOf(model, shape)
  const decode = await load()
  return {
    inputName,
    shape,
    async read(path) {
      const image = await decodeFile({ path, label: 0 }, { spec, shape, decode })
      if (isPeertuneError(image)) throw image
      return planes(image.pixels, shape, spec)
    }
  }
}

const pick = ({ example }: DecodedFolder, places: Uint32Array): Examples => ({
  length: places.length,
  at: (index) => example(places[index]!)
})

/** Channels, height and width: the model's, or the configuration's where the model leaves them open. */
function imageShapeOf({ inputs }: ModelInputs, { size }: Pick<ImagesSpec, 'size'>): Shape {
  const [, channels, height, width] = inputs[0]?.shape ?? []
  const dims = [
    channels,
    typeof height === 'number' ? height : size?.[0],
    typeof width === 'number' ? width : size?.[1]
  ]
  const [c, h, w] = dims
  if ((c === 1 || c === 3) && typeof h === 'number' && typeof w === 'number') return [c, h, w]
  throw new PeertuneError('data/model-mismatch', 'the model does not take images of 1 or 3 channels of a known size', {
    facts: { inputs: inputs.map((each) => `${each.name}[${each.shape.join(', ')}]`) },
    hint: 'give `size: [height, width]` in the data section where the model leaves them open'
  })
}

interface Decoding {
  readonly spec: ImagesSpec
  readonly task: ImageTask
  readonly shape: Shape
  readonly decode: DecodeImage
  readonly options: OpenOptions
}

interface DecodedFolder extends Collection {
  readonly skipped: { readonly skipped: number; readonly firstSkipped?: string }
  example(index: number): Example
  close(): void
}

async function decodeFolder(folder: string, decoding: Decoding): Promise<DecodedFolder> {
  const spool = createSpool()
  return orClosed(spool, () => decodeInto(spool, folder, decoding))
}

async function decodeInto(spool: Spool, folder: string, decoding: Decoding): Promise<DecodedFolder> {
  const { spec, task, shape, options } = decoding
  const files = await listImages(folder, task.labels)
  const [keys, labels] = [createNumberList(Uint32Array), createNumberList(Uint32Array)]
  const skip = createImageSkipper(spec)
  for (let first = 0; first < files.length; first += DECODING) {
    options.signal?.throwIfAborted()
    const decoded = await Promise.all(files.slice(first, first + DECODING).map((file) => decodeFile(file, decoding)))
    for (const image of decoded) {
      if (skip(image)) continue
      spool.append(image.pixels)
      keys.push(image.key)
      labels.push(image.label)
    }
    options.onProgress?.({ file: folder, bytes: first + decoded.length, totalBytes: files.length, rows: keys.length })
  }
  if (keys.length === 0) throw noImages(folder)
  const pixels = shape[0] * shape[1] * shape[2]
  return {
    size: keys.length,
    key: keys.at,
    labels: labels.at,
    labelNames: task.labels,
    skipped: skip.counted(),
    example: (index) => ({
      values: planes(spool.read(index * pixels, pixels), shape, spec),
      label: labels.at(index)
    }),
    close: spool.close
  }
}

type DecodedFile = Awaited<ReturnType<typeof decodeFile>>

/** Leaves broken images out and counts them where the configuration allows it. */
function createImageSkipper({ badRows }: Pick<ImagesSpec, 'badRows'>) {
  let skipped = 0
  let firstSkipped: string | undefined
  const skip = (image: DecodedFile): image is PeertuneError => {
    if (!isPeertuneError(image)) return false
    if (badRows !== 'skip') throw image
    skipped += 1
    firstSkipped ??= image.message
    return true
  }
  return Object.assign(skip, { counted: () => ({ skipped, ...(firstSkipped === undefined ? {} : { firstSkipped }) }) })
}

interface ImageFile {
  readonly path: string
  readonly label: number
}

/** In the order of their names. A folder that is no label ends it. */
async function listImages(folder: string, labels: readonly string[]): Promise<ImageFile[]> {
  const files: ImageFile[] = []
  for (const name of await folderNames(folder)) {
    const label = labels.indexOf(name)
    if (label < 0)
      throw new PeertuneError('data/unknown-class', `${join(folder, name)}: ${name} is not a label of the task`, {
        facts: { folder, got: name, expected: labels.slice(0, 20) },
        hint: 'the name of each folder is the label of its images'
      })
    for (const file of (await reading(join(folder, name), readdir(join(folder, name)))).sort())
      if (IMAGE_FILES.includes(extname(file).toLowerCase())) files.push({ path: join(folder, name, file), label })
    if (files.length > MAX_IMAGES)
      throw new PeertuneError('data/too-many-images', `${folder} has more than ${MAX_IMAGES} images`, {
        facts: { folder, expected: MAX_IMAGES },
        hint: 'give this peer a part of the data'
      })
  }
  if (files.length === 0) throw noImages(folder)
  return files
}

async function folderNames(folder: string): Promise<string[]> {
  const entries = await reading(folder, readdir(folder, { withFileTypes: true }))
  return entries.flatMap((entry) => (entry.isDirectory() && !entry.name.startsWith('.') ? [entry.name] : [])).sort()
}

const noImages = (folder: string): PeertuneError =>
  new PeertuneError('data/empty', `${folder} holds no JPEG or PNG file in a folder named after a label`, {
    facts: { file: folder },
    hint: 'put the images of each label into a folder of its name'
  })

interface FileDecoding extends Pick<Decoding, 'shape' | 'decode'> {
  readonly spec: Pick<ImagesSpec, 'fit' | 'testSeed'>
}

async function decodeFile({ path, label }: ImageFile, { spec, shape, decode }: FileDecoding) {
  const { size } = await statFile(path)
  if (size > MAX_IMAGE_BYTES) return badImage(path, `at most ${MAX_IMAGE_BYTES} bytes`, String(size))
  const bytes = await reading(path, readFile(path))
  try {
    const pixels = await decode(bytes, shape, spec.fit ?? 'stretch')
    return { pixels, label, key: contentKey(spec.testSeed ?? 'test', sha256Hex(bytes)) }
  } catch (cause) {
    return badImage(path, `a JPEG or PNG file of at most ${MAX_PIXELS} pixels`, reasonOf(cause), cause)
  }
}

const reasonOf = (cause: unknown): string =>
  cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)

const badImage = (file: string, expected: string, got: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-image', `${file}: expected ${expected}, got ${got}`, {
    facts: { file, expected, got },
    hint: 'put the image right, or let broken ones be left out and counted with `badRows: skip`',
    cause
  })

/** uint8[height, width, channel] -> float32[channel, height, width]. */
function planes(
  pixels: Uint8Array,
  [channels, height, width]: Shape,
  { mean, std }: Pick<ImagesSpec, 'mean' | 'std'>
): Float32Array {
  const area = height * width
  const out = new Float32Array(channels * area)
  for (let channel = 0; channel < channels; channel++) {
    const [middle, spread] = [mean?.[channel] ?? 0, std?.[channel] ?? 1]
    for (let i = 0; i < area; i++) out[channel * area + i] = (pixels[i * channels + channel]! / 255 - middle) / spread
  }
  return out
}

const FITS = { stretch: 'fill', cut: 'cover', bars: 'contain' } as const

/** sharp is an optional package: whoever has no images need not have it. */
async function loadSharp(): Promise<DecodeImage> {
  const { default: sharp } = await import('sharp').catch((cause: unknown) => {
    throw new PeertuneError('data/no-image-library', 'JPEG and PNG files need the package sharp, which is not there', {
      hint: 'npm install sharp; or give the pixels as a .npy file to a source of kind tensors',
      cause
    })
  })
  return async (file, [channels, height, width], fit) => {
    const { data } = await sharp(file, { limitInputPixels: MAX_PIXELS })
      .resize(width, height, { fit: FITS[fit], background: '#000' })
      .removeAlpha()
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    if (data.length !== channels * height * width) throw new Error(`${data.length} bytes of pixels`)
    return data
  }
}
