import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import { allFinite } from '../../tensor/linear.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { requireFinite, wrongLength } from './blocks.js'
import type { CodecVerdictCode, EdgeMemory, VectorCodec } from '../codec.js'

/** A matrix is projected; anything else (a bias) is one row and is sent whole. */
interface Matrix {
  readonly name: string
  readonly offset: number
  readonly rows: number
  readonly columns: number
}

function matrixOf({ name, offset, shape, size }: ParameterSchema['entries'][number]): Matrix {
  const rows = shape.length > 1 ? shape[0]! : 1
  return { name, offset, rows, columns: size / Math.max(1, rows) }
}

/** Even turns project columns on a direction of the rows' space (left), odd turns the other way. */
const isLeft = (turn: number): boolean => turn % 2 === 0
const directionLength = ({ rows, columns }: Matrix, turn: number): number => (isLeft(turn) ? rows : columns)

/**
 * Scales a direction to unit length and turns it so that its largest element is positive: both ends then have the same
 * bits although they see differences of opposite sign. One that is zero is drawn afresh from what both ends know.
 */
function normalise(direction: Float32Array, seed: readonly (string | number)[]): void {
  let square = 0
  let largest = 0
  for (const value of direction) {
    square += value * value
    if (Math.abs(value) > Math.abs(largest)) largest = value
  }
  if (!(square > 0) || !Number.isFinite(square)) {
    const rng = seededRng('powergossip', ...seed)
    for (let i = 0; i < direction.length; i++) direction[i] = rng.uniform() - 0.5
    return normalise(direction, [...seed, 'again'])
  }
  const scale = Math.sign(largest) / Math.sqrt(square)
  // Adding zero makes -0 into 0: the other end sees the opposite signs.
  for (let i = 0; i < direction.length; i++) direction[i] = direction[i]! * scale + 0
}

/** What one turn projects: every matrix on a direction of its own, one behind the other. */
interface Probe {
  readonly matrices: readonly Matrix[]
  readonly turn: number
  readonly directions: Float32Array
}

/** One matrix of a probe, with its direction and the image under it. */
interface Projection {
  readonly matrix: Matrix
  readonly left: boolean
  readonly direction: Float32Array
  readonly image: Float32Array
}

/** image = X^T p (left) or X p (right), for the matrix at `offset` of `vector` minus `start`. */
function project(projection: Projection, vector: Float32Array, start: Float32Array | undefined): void {
  const { left, direction, image } = projection
  const { offset, rows, columns } = projection.matrix
  const sums = new Float64Array(image.length)
  for (let r = 0, at = offset; r < rows; r++)
    for (let c = 0; c < columns; c++, at++) {
      const value = vector[at]! - (start?.[at] ?? 0)
      if (left) sums[c]! += value * direction[r]!
      else sums[r]! += value * direction[c]!
    }
  image.set(sums)
}

/** vector <- vector + p q^T (left) or q p^T (right). */
function expand({ matrix, left, direction, image }: Projection, vector: Float32Array): void {
  const { offset, rows, columns } = matrix
  for (let r = 0, at = offset; r < rows; r++)
    for (let c = 0; c < columns; c++, at++)
      vector[at] = vector[at]! + (left ? direction[r]! * image[c]! : image[r]! * direction[c]!)
}

const sizeOf = (matrices: readonly Matrix[], turn: number): number =>
  matrices.reduce((sum, matrix) => sum + directionLength(matrix, turn), 0)

const imageElements = ({ matrices, turn }: Omit<Probe, 'directions'>): number => sizeOf(matrices, turn + 1)

/** Walks the matrices of a probe with their part of `images`. */
function eachMatrix(probe: Probe, images: Float32Array, visit: (projection: Projection) => void): void {
  const { matrices, turn, directions } = probe
  let directionAt = 0
  let imageAt = 0
  for (const matrix of matrices) {
    const directionEnd = directionAt + directionLength(matrix, turn)
    const imageEnd = imageAt + directionLength(matrix, turn + 1)
    const direction = directions.subarray(directionAt, directionEnd)
    visit({ matrix, left: isLeft(turn), direction, image: images.subarray(imageAt, imageEnd) })
    directionAt = directionEnd
    imageAt = imageEnd
  }
}

/** Images of `vector` minus `start`, one behind the other. */
function imagesOf(probe: Probe, vector: Float32Array, start: Float32Array | undefined): Float32Array {
  const images = new Float32Array(imageElements(probe))
  eachMatrix(probe, images, (projection) => project(projection, vector, start))
  return images
}

function firstDirections(matrices: readonly Matrix[]): Float32Array {
  const directions = new Float32Array(sizeOf(matrices, 0))
  eachMatrix({ matrices, turn: 0, directions }, new Float32Array(sizeOf(matrices, 1)), ({ matrix, direction }) =>
    normalise(direction, [matrix.name])
  )
  return directions
}

function write(images: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 * images.length)
  const view = new DataView(bytes.buffer)
  images.forEach((value, i) => {
    if (!Number.isFinite(value))
      throw new PeertuneError('codec/out-of-range', 'a projection is too large to be sent', {
        facts: { index: i },
        hint: 'parameters this far from their start have diverged: lower the learning rate'
      })
    view.setFloat32(4 * i, value, true)
  })
  return bytes
}

/** `start` moved by what the images say. */
function read(probe: Probe, bytes: Uint8Array, start: Float32Array): Decoded<Float32Array, CodecVerdictCode> {
  const fault = wrongLength(bytes, 4 * imageElements(probe))
  if (fault !== undefined) return fault
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const images = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true))
  if (!allFinite(images)) return refused(reject('codec/not-finite', 'an image is not finite'))
  const vector = start.slice()
  eachMatrix(probe, images, (projection) => expand(projection, vector))
  return allFinite(vector) ? decoded(vector) : refused(reject('codec/not-finite', 'start plus projection overflows'))
}

/**
 * PowerGossip (Vogels, Karimireddy & Jaggi 2020, https://arxiv.org/abs/2008.01425, algorithm 1): each end projects its
 * matrices on a direction both know and sends the images; the next direction is the difference of the two images, which is
 * one step of the power method on the difference of the two ends. About the mean of rows and columns in floats for each
 * matrix, no step size to tune. Vectors are sent whole.
 *
 * Layout: for each tensor in schema order its image as float32, little-endian. An even turn sends X^T p, float32[columns];
 * an odd one X p, float32[rows].
 */
export function powerGossipCodec(schema: ParameterSchema): VectorCodec {
  const matrices = schema.entries.map(matrixOf)
  const first = firstDirections(matrices)
  const firstProbe: Probe = { matrices, turn: 0, directions: first }
  const mostElements = Math.max(sizeOf(matrices, 0), sizeOf(matrices, 1))
  const probeOf = ({ directions = first, turns }: EdgeMemory): Probe => ({ matrices, turn: turns, directions })
  const encode = (probe: Probe, vector: Float32Array, start?: Float32Array) => {
    requireFinite(vector)
    return write(imagesOf(probe, vector, start))
  }

  return {
    name: 'powergossip',
    variableLength: true,
    encodedBytes: () => 4 * mostElements,
    encode: (vector) => encode(firstProbe, vector),
    decode: (bytes, count) =>
      count === schema.size
        ? read(firstProbe, bytes, new Float32Array(count))
        : refused(reject('codec/wrong-length', `${count} elements, the schema has ${schema.size}`)),
    edge: {
      begin: (start) => ({ own: start, partner: start, directions: first, turns: 0 }),
      encode: (parameters, memory) => encode(probeOf(memory), parameters, memory.own),
      decode: (bytes, memory) => read(probeOf(memory), bytes, memory.own),
      next(memory, own, partner) {
        const { own: start, turns } = memory
        const images = imagesOf(probeOf(memory), own, partner)
        eachMatrix(probeOf(memory), images, ({ matrix, image }) => normalise(image, [matrix.name, turns + 1]))
        return { own: start, partner: start, directions: images, turns: turns + 1 }
      },
      memoryElements: () => mostElements
    }
  }
}
