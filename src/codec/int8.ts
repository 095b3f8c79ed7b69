import { PeertuneError } from '../base/errors.js'
import type { Rng } from '../base/rng.js'
import { decoded, refused, reject } from '../base/verdict.js'
import { fromHalf, HALF_MAX, toHalfRoundedUp } from '../tensor/half.js'
import type { VectorCodec } from './codec.js'

/**
 * Elements that share one scale. 256 costs 2/256 bytes an element (1.008 B/parameter in all) and keeps one outlier from
 * coarsening more than its own block; the same block as bitsandbytes' 8-bit states (Dettmers et al. 2021,
 * https://arxiv.org/abs/2110.02861).
 */
export const INT8_BLOCK = 256

/** Symmetric levels -127..127; -128 is never written, so that x and -x have mirrored codes. */
const LEVELS = 127

/** Largest magnitude a binary16 scale can carry. A difference from the common start this large means divergence. */
export const INT8_MAX_MAGNITUDE = HALF_MAX * LEVELS

const SCALE_BYTES = 2

const blocksOf = (count: number): number => Math.ceil(count / INT8_BLOCK)

/** Largest magnitude in vector[start, end). Throws `codec/not-finite` and `codec/out-of-range`: our bug, not a peer's. */
function blockMagnitude(vector: Float32Array, start: number, end: number): number {
  let largest = 0
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(vector[i]!)
    if (!Number.isFinite(magnitude))
      throw new PeertuneError('codec/not-finite', `element ${i} is ${vector[i]}: only finite numbers can be sent`, {
        facts: { index: i, got: String(vector[i]) }
      })
    if (magnitude > largest) largest = magnitude
  }
  if (largest > INT8_MAX_MAGNITUDE)
    throw new PeertuneError('codec/out-of-range', `a magnitude of ${largest} does not fit the int8 codec's scale`, {
      facts: { got: largest, most: INT8_MAX_MAGNITUDE },
      hint: 'parameters this far from their start have diverged: lower the learning rate'
    })
  return largest
}

/** Stochastic rounding: floor(v / scale + u), u uniform in [0, 1), has the expectation v / scale. */
function quantiseBlock(vector: Float32Array, start: number, scale: number, codes: Int8Array, rng: Rng): void {
  for (let i = 0; i < codes.length; i++) {
    const level = Math.floor(vector[start + i]! / scale + rng.uniform())
    // The quotient of the largest element may round to a hair above 127.
    codes[i] = Math.max(-LEVELS, Math.min(LEVELS, level))
  }
}

/**
 * 8-bit block quantisation with stochastic rounding: unbiased, E[decode(encode(v))] = v, with an error below one scale
 * step per element (QSGD, Alistarh et al. 2017, https://arxiv.org/abs/1610.02132, with the max norm of a block as scale).
 *
 * Layout: ceil(count / 256) binary16 scales, little-endian, then `count` int8 codes. Element i is code[i] * scale[i / 256],
 * exact in float32 (7 + 11 significant bits). The scale is absmax / 127 rounded up to binary16; 0 for a block of zeros.
 */
export const int8Codec: VectorCodec = {
  name: 'int8',

  encodedBytes: (count) => SCALE_BYTES * blocksOf(count) + count,

  encode(vector, rng) {
    const count = vector.length
    const codesAt = SCALE_BYTES * blocksOf(count)
    const bytes = new Uint8Array(codesAt + count)
    const view = new DataView(bytes.buffer)
    for (let block = 0, start = 0; start < count; block++, start += INT8_BLOCK) {
      const end = Math.min(start + INT8_BLOCK, count)
      const scaleBits = toHalfRoundedUp(blockMagnitude(vector, start, end) / LEVELS)
      view.setUint16(SCALE_BYTES * block, scaleBits, true)
      // A block of zeros keeps its zero codes and draws nothing.
      if (scaleBits === 0) continue
      quantiseBlock(vector, start, fromHalf(scaleBits), new Int8Array(bytes.buffer, codesAt + start, end - start), rng)
    }
    return bytes
  },

  decode(bytes, count) {
    const codesAt = SCALE_BYTES * blocksOf(count)
    if (bytes.length !== codesAt + count)
      return refused(reject('codec/wrong-length', `expected ${codesAt + count} bytes, got ${bytes.length}`))
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const vector = new Float32Array(count)
    for (let block = 0, start = 0; start < count; block++, start += INT8_BLOCK) {
      const scaleBits = view.getUint16(SCALE_BYTES * block, true)
      if (scaleBits & 0x8000) return refused(reject('codec/malformed', `scale of block ${block} is negative`))
      const scale = fromHalf(scaleBits)
      if (!Number.isFinite(scale)) return refused(reject('codec/not-finite', `scale of block ${block} is ${scale}`))
      const end = Math.min(start + INT8_BLOCK, count)
      for (let i = start; i < end; i++) {
        const code = view.getInt8(codesAt + i)
        if (code < -LEVELS) return refused(reject('codec/malformed', `code of element ${i} is ${code}`))
        vector[i] = code * scale
      }
    }
    return decoded(vector)
  }
}
