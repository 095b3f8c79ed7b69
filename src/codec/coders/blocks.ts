import { PeertuneError } from '../../base/errors.js'
import type { Rng } from '../../base/rng.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import { fromHalf, HALF_MAX, toHalfRoundedUp } from '../../tensor/half.js'
import type { CodecName, CodecVerdictCode } from '../codec.js'

/**
 * Elements that share one scale. 256 costs 2/256 bytes an element and keeps one outlier from coarsening more than its
 * own block; the same block as bitsandbytes' 8-bit states (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861).
 */
export const BLOCK = 256

export const SCALE_BYTES = 2

export const blocksOf = (count: number): number => Math.ceil(count / BLOCK)

/**
 * `stochastic`: floor(v / scale + u), u uniform in [0, 1), so that the expectation is v / scale. Unbiased, for coders
 * without memory. `nearest`: half the error and never more than the element itself, so a contraction whatever the
 * vector, which error feedback asks for and unbiasedness does not give.
 */
export type Rounding = 'stochastic' | 'nearest'

export interface Quantiser {
  readonly name: CodecName
  /** Codes are -levels..levels. */
  readonly levels: number
  readonly rounding: Rounding
  /** Drawn from where rounding is stochastic. */
  readonly rng: Rng
}

/** Where the scales of all blocks and the codes of all elements are written. */
export interface QuantisedInto {
  readonly scales: DataView
  /** int8[vector.length]. */
  readonly codes: Int8Array
}

const notFinite = (index: number, value: number | undefined) =>
  new PeertuneError('codec/not-finite', `element ${index} is ${value}: only finite numbers can be sent`, {
    facts: { index, got: String(value) }
  })

/** Throws `codec/not-finite`: our bug, not a peer's. */
export function requireFinite(vector: Float32Array): void {
  for (let i = 0; i < vector.length; i++) if (!Number.isFinite(vector[i]!)) throw notFinite(i, vector[i])
}

/** Throws `codec/out-of-range` for a magnitude whose scale is beyond binary16. */
export function requireInRange(name: CodecName, magnitude: number, most: number): void {
  if (magnitude <= most) return
  throw new PeertuneError('codec/out-of-range', `a magnitude of ${magnitude} does not fit the ${name} codec's scale`, {
    facts: { got: magnitude, most },
    hint: 'parameters this far from their start have diverged: lower the learning rate'
  })
}

/** Largest magnitude in vector[start, end). Throws `codec/not-finite`. */
function blockMagnitude(vector: Float32Array, start: number, end: number): number {
  let largest = 0
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(vector[i]!)
    // Also false for NaN.
    if (!(magnitude <= 3.5e38)) throw notFinite(i, vector[i])
    if (magnitude > largest) largest = magnitude
  }
  return largest
}

/** Random words of one block at a time; a block draws one for each of its elements. */
const words = new Uint32Array(BLOCK)

/**
 * Writes the binary16 scales of all blocks and the codes. The scale is absmax / levels rounded up to binary16, so nothing
 * is clipped; a block of zeros has scale 0 and draws nothing.
 * Throws `codec/not-finite` and `codec/out-of-range`.
 */
export function quantise(
  { name, levels, rounding, rng }: Quantiser,
  vector: Float32Array,
  { scales, codes }: QuantisedInto
): void {
  for (let index = 0, start = 0; start < vector.length; index++, start += BLOCK) {
    const end = Math.min(start + BLOCK, vector.length)
    const magnitude = blockMagnitude(vector, start, end)
    requireInRange(name, magnitude, HALF_MAX * levels)
    const bits = toHalfRoundedUp(magnitude / levels)
    scales.setUint16(SCALE_BYTES * index, bits, true)
    if (bits === 0) continue
    const scale = fromHalf(bits)
    const block = { vector, start, end, scale }
    if (rounding === 'nearest') roundNearest(block, codes)
    else roundStochastic(block, rng, codes)
  }
}

/** vector[start, end), whose codes are multiples of `scale`. */
interface ScaledBlock {
  readonly vector: Float32Array
  readonly start: number
  readonly end: number
  readonly scale: number
}

function roundNearest({ vector, start, end, scale }: ScaledBlock, codes: Int8Array): void {
  for (let i = start; i < end; i++) codes[i] = Math.floor(vector[i]! / scale + 0.5)
}

/**
 * No code leaves -levels..levels: the scale is at least magnitude / levels, both of few enough bits for their quotient not to
 * round beyond, and a draw is below 1.
 */
function roundStochastic({ vector, start, end, scale }: ScaledBlock, rng: Rng, codes: Int8Array): void {
  rng.fill(words.length === end - start ? words : words.subarray(0, end - start))
  for (let i = start; i < end; i++) codes[i] = Math.floor(vector[i]! / scale + words[i - start]! / 0x1_0000_0000)
}

/** Reads the scales of all blocks, float32[blocks], or says what is wrong with one. */
export function readScales(bytes: Uint8Array, at: number, blocks: number): Decoded<Float32Array, CodecVerdictCode> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const scales = new Float32Array(blocks)
  for (let block = 0; block < blocks; block++) {
    const bits = view.getUint16(at + SCALE_BYTES * block, true)
    if (bits & 0x8000) return refused(reject('codec/malformed', `scale of block ${block} is negative`))
    const scale = fromHalf(bits)
    if (!Number.isFinite(scale)) return refused(reject('codec/not-finite', `scale of block ${block} is ${scale}`))
    scales[block] = scale
  }
  return decoded(scales)
}

/** The verdict on a payload whose length is not the expected one, or `undefined`. */
export const wrongLength = (bytes: Uint8Array, expected: number) =>
  bytes.length === expected
    ? undefined
    : refused(reject('codec/wrong-length', `expected ${expected} bytes, got ${bytes.length}`))
