import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import { allFinite } from '../../tensor/linear.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { requireFinite, wrongLength } from './blocks.js'
import type { CodecVerdictCode, VectorCodec } from '../codec.js'

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

/** image = X^T p (left) or X p (right), for the matrix at `offset` of `vector` minus `start`. */
function project(
  { offset, rows, columns }: Matrix,
  left: boolean,
  vector: Float32Array,
  start: Float32Array | undefined,
  direction: Float32Array,
  image: Float32Array
): void {
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
function expand(
  { offset, rows, columns }: Matrix,
  left: boolean,
  direction: Float32Array,
  image: Float32Array,
  vector: Float32Array
): void {
  for (let r = 0, at = offset; r < rows; r++)
    for (let c = 0; c < columns; c++, at++)
      vector[at] = vector[at]! + (left ? direction[r]! * image[c]! : image[r]! * direction[c]!)
}

/** Walks the matrices with each one's direction and image. */
function eachMatrix(
  matrices: readonly Matrix[],
  turn: number,
  directions: Float32Array,
  images: Float32Array,
  visit: (matrix: Matrix, direction: Float32Array, image: Float32Array) => void
): void {
  let directionAt = 0
  let imageAt = 0
  for (const matrix of matrices) {
    const [directionEnd, imageEnd] = [
      directionAt + directionLength(matrix, turn),
      imageAt + directionLength(matrix, turn + 1)
    ]
    visit(matrix, directions.subarray(directionAt, directionEnd), images.subarray(imageAt, imageEnd))
    directionAt = directionEnd
    imageAt = imageEnd
  }
}

const sizeOf = (matrices: readonly Matrix[], turn: number): number =>
  matrices.reduce((sum, matrix) => sum + directionLength(matrix, turn), 0)

/** Images of `vector` minus `start`, one behind the other. */
function imagesOf(
  matrices: readonly Matrix[],
  turn: number,
  vector: Float32Array,
  start: Float32Array | undefined,
  directions: Float32Array
): Float32Array {
  const images = new Float32Array(sizeOf(matrices, turn + 1))
  eachMatrix(matrices, turn, directions, images, (matrix, direction, image) =>
    project(matrix, isLeft(turn), vector, start, direction, image)
  )
  return images
}

function firstDirections(matrices: readonly Matrix[]): Float32Array {
  const directions = new Float32Array(sizeOf(matrices, 0))
  eachMatrix(matrices, 0, directions, directions, ({ name }, direction) => normalise(direction, [name]))
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
function read(
  matrices: readonly Matrix[],
  turn: number,
  bytes: Uint8Array,
  start: Float32Array,
  directions: Float32Array
): Decoded<Float32Array, CodecVerdictCode> {
  const fault = wrongLength(bytes, 4 * sizeOf(matrices, turn + 1))
  if (fault !== undefined) return fault
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const images = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true))
  if (!allFinite(images)) return refused(reject('codec/not-finite', 'an image is not finite'))
  const vector = start.slice()
  eachMatrix(matrices, turn, directions, images, (matrix, direction, image) =>
    expand(matrix, isLeft(turn), direction, image, vector)
  )
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
  const mostElements = Math.max(sizeOf(matrices, 0), sizeOf(matrices, 1))
  const encode = (vector: Float32Array, start: Float32Array | undefined, directions: Float32Array, turn: number) => {
    requireFinite(vector)
    return write(imagesOf(matrices, turn, vector, start, directions))
  }

  return {
    name: 'powergossip',
    variableLength: true,
    encodedBytes: () => 4 * mostElements,
    encode: (vector) => encode(vector, undefined, first, 0),
    decode: (bytes, count) =>
      count === schema.size
        ? read(matrices, 0, bytes, new Float32Array(count), first)
        : refused(reject('codec/wrong-length', `${count} elements, the schema has ${schema.size}`)),
    edge: {
      begin: (start) => ({ own: start, partner: start, directions: first, turns: 0 }),
      encode: (parameters, { own, directions = first, turns }) => encode(parameters, own, directions, turns),
      decode: (bytes, { own, directions = first, turns }) => read(matrices, turns, bytes, own, directions),
      next({ own: start, directions = first, turns }, own, partner) {
        const images = imagesOf(matrices, turns, own, partner, directions)
        eachMatrix(matrices, turns, directions, images, ({ name }, _, image) => normalise(image, [name, turns + 1]))
        return { own: start, partner: start, directions: images, turns: turns + 1 }
      },
      memoryElements: () => mostElements
    }
  }
}
