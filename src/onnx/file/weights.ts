import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, resolve } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { shapeSize } from '../../tensor/schema.js'
import { floatValues } from '../graph/constant.js'
import { bytesOfElements } from '../graph/element-type.js'
import type { Graph, Initializer } from '../graph/graph.js'
import { widenBytes } from './widen-half.js'

/** Inline weights above this many bytes move to a file; smaller ones are cheaper in the graph's own bytes. */
export const SHARED_WEIGHT_BYTES = 64 * 1024
/** Bytes. A page: what memory mapping asks of offsets. */
const ALIGNMENT = 4096

const externalLocations = (graph: Graph): string[] =>
  [
    ...new Set(
      Array.from(graph.initializers.values()).flatMap(({ data }) => (data.kind === 'external' ? data.location : []))
    )
  ].sort()

/** A model must not read files outside its own folder. Throws `onnx/weights-outside`. */
export function resolveLocation(directory: string, location: string): string {
  const path = normalize(location)
  if (!isAbsolute(path) && path !== '..' && !path.startsWith('../') && !path.startsWith('..\\'))
    return join(directory, path)
  throw new PeertuneError('onnx/weights-outside', `the model keeps weights at ${location}, outside its own folder`, {
    facts: { location },
    hint: 'export the model with its data file in the folder of the .onnx file'
  })
}

const missingWeights = (path: string, cause: unknown): PeertuneError =>
  new PeertuneError('onnx/missing-weights', `cannot read ${path}`, {
    facts: { path },
    hint: 'keep the external data file in the folder of the .onnx file, under the name it was exported with',
    cause
  })

export interface SharedModel {
  readonly graph: Graph
  /** Folder of the files that external initializers name. */
  readonly externalDir: string
}

export interface ShareOptions {
  readonly modelPath: string
  /** SHA-256 (hex) of the model; names the weight file. */
  readonly sha256: string
  readonly cacheDir: string
}

/**
 * Puts the big inline weights of a model into one aligned file, once per model and machine, and refers to them there.
 * onnxruntime maps that file, so that all sessions of all processes share its pages. Any number of processes may do this
 * at once: each writes under its own name and renames. A model that has external data already is left as it is, unless
 * that data is float16: then all of it is copied, widened.
 */
export async function shareWeights(graph: Graph, { modelPath, sha256, cacheDir }: ShareOptions): Promise<SharedModel> {
  const modelDir = dirname(modelPath)
  if (externalLocations(graph).length > 0 && !hasHalfWeights(graph))
    return (await inBlobs(graph, modelDir)) ?? { graph, externalDir: modelDir }
  const location = `${sha256}.weights`
  const { initializers, regions, size } = layOut(graph, { location, modelDir })
  const path = join(cacheDir, location)
  const present = await stat(path).catch(() => undefined)
  if (regions.length > 0 && present?.size !== size) {
    await mkdir(cacheDir, { recursive: true })
    await writeRegions(path, regions, size)
  }
  return { graph: { ...graph, initializers }, externalDir: cacheDir }
}

/** A snapshot in a cache of the Hugging Face hub, and the repository's folder that it is in. */
const SNAPSHOT = /^(.*[/\\]models--[^/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}(?:[/\\].*)?$/

/**
 * The graph with its weights where they really lie: a cache of the Hugging Face hub links from a snapshot to the blobs
 * beside it, and the runtime opens no link that leads out of the model's folder. Undefined where that is not so: other
 * links may lead to files that are nobody's weights, and stay refused.
 */
async function inBlobs(graph: Graph, modelDir: string): Promise<SharedModel | undefined> {
  const [, repository] = SNAPSHOT.exec(resolve(modelDir)) ?? []
  if (repository === undefined) return undefined
  const blobs = await realpath(join(repository, 'blobs')).catch(() => undefined)
  const names = new Map<string, string>()
  for (const location of externalLocations(graph)) {
    const path = await realpath(resolveLocation(modelDir, location)).catch(() => undefined)
    if (blobs === undefined || path === undefined || dirname(path) !== blobs) return undefined
    names.set(location, basename(path))
  }
  const initializers = new Map(
    Array.from(graph.initializers, ([name, initializer]) => {
      const { data } = initializer
      if (data.kind !== 'external') return [name, initializer]
      return [name, { ...initializer, data: { ...data, location: names.get(data.location) as string } }]
    })
  )
  return { graph: { ...graph, initializers }, externalDir: blobs as string }
}

const hasHalfWeights = (graph: Graph): boolean =>
  Array.from(graph.initializers.values()).some(({ type, data }) => type === 'float16' && data.kind === 'external')

interface Region {
  readonly offset: number
  /** Read when it is written, so that one tensor at a time is in memory. */
  read(): Uint8Array
}

interface Layout {
  /** The file to refer to. */
  readonly location: string
  /** Folder of the files that the graph refers to now. */
  readonly modelDir: string
}

/** The same model gives the same layout, so whoever comes first writes the file for all. */
function layOut(graph: Graph, { location, modelDir }: Layout) {
  const regions: Region[] = []
  const placed = new Map<Uint8Array | string, number>()
  let size = 0
  const place = (initializer: Initializer, length: number): number => {
    const { data, type } = initializer
    const key = data.kind === 'inline' ? data.bytes : `${type} ${data.location} ${data.offset}`
    const known = placed.get(key)
    if (known !== undefined) return known
    const offset = Math.ceil(size / ALIGNMENT) * ALIGNMENT
    const bytes = (): Uint8Array => (data.kind === 'inline' ? data.bytes : readBytes(initializer, modelDir))
    regions.push({ offset, read: () => (type === 'float16' ? widenBytes(bytes()) : bytes()) })
    placed.set(key, offset)
    size = offset + length
    return offset
  }
  const initializers = new Map<string, Initializer>()
  for (const [name, initializer] of graph.initializers) {
    const { data } = initializer
    const type = initializer.type === 'float16' ? 'float32' : initializer.type
    const length = bytesOfElements(type, shapeSize(initializer.shape))
    if (data.kind === 'inline' && data.bytes.length < SHARED_WEIGHT_BYTES) {
      initializers.set(name, initializer)
      continue
    }
    const external = { kind: 'external', location, offset: place(initializer, length), length } as const
    initializers.set(name, { ...initializer, type, data: external })
  }
  return { initializers, regions, size }
}

async function writeRegions(path: string, regions: readonly Region[], size: number): Promise<void> {
  const temporary = `${path}.${process.pid}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx')
    try {
      await file.truncate(size)
      for (const { offset, read } of regions) {
        const bytes = read()
        await file.write(bytes, 0, bytes.length, offset)
      }
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw cause
  }
}

/** Values of a float32 weight, wherever it lies. Throws `onnx/missing-weights` and `config/quantised-weight`. */
export function readWeight(initializer: Initializer, externalDir: string): Float32Array {
  const { name, type, data } = initializer
  if (type !== 'float32' && type !== 'float64')
    throw new PeertuneError('config/quantised-weight', `${name} is quantised (${type})`, {
      facts: { name, type },
      hint: 'a quantised base cannot train or start from its own weights: take lora, ia3 or another method beside them'
    })
  if (data.kind === 'inline') return Float32Array.from(floatValues({ name, type, shape: [], data }))
  return new Float32Array(readBytes(initializer, externalDir).buffer)
}

/** Elements of a piece: 1 MB, which stays in a core's cache between being read and being looked at. */
const PIECE_ELEMENTS = 2 ** 18

/** What `readWeight` gives, piece by piece in the same memory: each is only good until the next. */
export function* weightPieces(initializer: Initializer, externalDir: string): Generator<Float32Array> {
  const { type, data } = initializer
  if (data.kind === 'inline' || type !== 'float32') return yield readWeight(initializer, externalDir)
  const piece = new Float32Array(Math.min(PIECE_ELEMENTS, data.length / 4))
  const end = data.offset + data.length
  for (let offset = data.offset; offset < end; offset += piece.byteLength) {
    const part = piece.subarray(0, (end - offset) / 4)
    readInto(new Uint8Array(part.buffer, 0, part.byteLength), { ...data, offset }, externalDir)
    yield part
  }
}

/** Bytes of a constant, wherever it lies. Throws `onnx/missing-weights`. */
export function readBytes({ data }: Initializer, externalDir: string): Uint8Array<ArrayBuffer> {
  if (data.kind === 'inline') return new Uint8Array(data.bytes)
  const bytes = new Uint8Array(data.length)
  readInto(bytes, data, externalDir)
  return bytes
}

/** Fills `bytes` from `offset` on. */
function readInto(
  bytes: Uint8Array,
  { location, offset }: { readonly location: string; readonly offset: number },
  externalDir: string
): void {
  const path = resolveLocation(externalDir, location)
  try {
    const file = openSync(path, 'r')
    try {
      if (readSync(file, bytes, 0, bytes.length, offset) !== bytes.length) throw new Error('the file is too short')
    } finally {
      closeSync(file)
    }
  } catch (cause) {
    throw missingWeights(path, cause)
  }
}
