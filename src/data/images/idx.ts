import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import type { TaskSpec } from '../../base/federation.js'
import { seededRng } from '../../base/rng.js'
import { choose } from '../splits/choose.js'
import { type Example, imageCollator, imageInputOf, type ModelInputs } from '../batches/collate.js'
import type { DatasetParts } from '../batches/dataset.js'
import { readPieces, statFile } from '../formats/files.js'
import type { OpenOptions } from '../formats/progress.js'
import type { IdxSpec } from '../spec.js'

/** Bytes of one IDX file, unpacked: MNIST's 60,000 images have 47 MB. */
const MAX_IDX_BYTES = 512 * 1024 * 1024
/** IDX element type 0x08: unsigned byte, the only one in use for images. */
const UNSIGNED_BYTE = 0x08

export interface IdxArray {
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/**
 * Reads an IDX file of unsigned bytes, plain or gzipped: two zero bytes, the element type, the rank, the dimensions as
 * big-endian 32-bit numbers, the bytes (https://yann.lecun.org/exdb/mnist). Throws `data/no-file`, `data/bad-idx` and the
 * signal's reason.
 */
export async function readIdx(path: string, rank: number, signal?: AbortSignal): Promise<IdxArray> {
  const bytes = await readBytes(path, signal)
  const found = bytes.length < 4 ? 'fewer than 4 bytes' : `0x${bytes.subarray(0, 4).toString('hex')}`
  if (bytes.length < 4 + 4 * rank || bytes.readUInt32BE(0) !== ((UNSIGNED_BYTE << 8) | rank))
    throw badIdx(path, `an IDX file of unsigned bytes with ${rank} dimensions`, found)
  const shape = Array.from({ length: rank }, (_, i) => bytes.readUInt32BE(4 + 4 * i))
  const size = shape.reduce((product, dim) => product * dim, 1)
  const data = bytes.subarray(4 + 4 * rank)
  if (data.length !== size) throw badIdx(path, `${size} bytes for ${shape.join(' x ')}`, `${data.length}`)
  return { shape, data }
}

async function readBytes(path: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const { size } = await statFile(path)
  if (size > MAX_IDX_BYTES) throw badIdx(path, `at most ${MAX_IDX_BYTES} bytes`, `${size}`)
  const packed = readPieces(path, { signal })
  if (!path.endsWith('.gz')) return wholeOf(packed)
  try {
    return await pipeline(packed, createGunzip(), wholeOf)
  } catch (cause) {
    if (signal?.aborted) throw signal.reason
    if (isPeertuneError(cause)) throw cause
    throw badIdx(path, `a gzip file of at most ${MAX_IDX_BYTES} bytes`, 'something else', cause)
  }
}

/** A small file may unpack to any size. */
async function wholeOf(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const kept: Buffer[] = []
  let size = 0
  for await (const piece of pieces) {
    size += piece.length
    if (size > MAX_IDX_BYTES) throw new Error('it unpacks to more')
    kept.push(piece)
  }
  return Buffer.concat(kept)
}

/** Grey images from 0 to 1 with their labels as a dataset. Throws `data/bad-idx`, `data/model-mismatch`. */
export async function readIdxPair(
  spec: IdxSpec,
  task: Extract<TaskSpec, { kind: 'image-classification' }>,
  model: ModelInputs,
  { signal }: OpenOptions = {}
): Promise<DatasetParts> {
  const images = await readIdx(spec.images, 3, signal)
  const labels = await readIdx(spec.labels, 1, signal)
  const [count = 0, height = 0, width = 0] = images.shape
  if (labels.data.length !== count) throw badIdx(spec.labels, `${count} labels`, `${labels.data.length}`)
  const stranger = labels.data.findIndex((label) => label >= task.labels.length)
  if (stranger >= 0)
    throw badIdx(spec.labels, `labels below ${task.labels.length}`, `${labels.data[stranger]} at ${stranger}`)
  const size = height * width
  const all = Array.from(labels.data, (label, i): Example => {
    const values = Float32Array.from(images.data.subarray(i * size, (i + 1) * size), (grey) => grey / 255)
    return { values, label }
  })
  const { split, testSamples } = spec
  // Peers of one split hold out the same images, whatever the order of their epochs.
  const shuffled = seededRng('hold-out', split === undefined ? spec.seed : (split.seed ?? 'split')).shuffle(all)
  const [training, heldOut] = [shuffled.slice(testSamples), shuffled.slice(0, testSamples)]
  const { training: own, summary } = choose(
    { size: training.length, key: (i) => i, labels: (i) => training[i]!.label, labelNames: task.labels },
    { kind: spec.kind, heldOut: 0, ...(split && { split }) }
  )
  return {
    training: Array.from(own, (place) => training[place]!),
    heldOut,
    summary: { ...summary, heldOut: heldOut.length },
    seed: spec.seed,
    collate: imageCollator(imageInputOf(model, [1, height, width]), [1, height, width])
  }
}

const badIdx = (file: string, expected: string, got: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-idx', `${file}: expected ${expected}, got ${got}`, {
    facts: { file, expected, got },
    cause
  })
