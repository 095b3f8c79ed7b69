import { HALF_MAX } from '../../tensor/half.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import type { Rounding } from './blocks.js'
import { blocksOf, quantise, readScales, SCALE_BYTES, wrongLength } from './blocks.js'
import type { VectorCodec } from '../codec.js'

/** Symmetric levels -7..7; -8 is never written. */
const LEVELS = 7

const nibbleBytes = (count: number): number => Math.ceil(count / 2)

/** Two codes to a byte, the even element in the low half; two's complement. */
function pack(codes: Int8Array, bytes: Uint8Array, at: number): void {
  for (let i = 0; i < codes.length; i += 2) bytes[at + (i >> 1)] = (codes[i]! & 15) | ((codes[i + 1] ?? 0) << 4)
}

/**
 * 4-bit block quantisation, as `int8` with 15 levels; 0.508 bytes an element.
 *
 * Layout: ceil(count / 256) binary16 scales, little-endian, then ceil(count / 2) bytes of codes; the unused half of the
 * last byte is zero.
 */
export const int4Coder = (rounding: Rounding): VectorCodec => ({
  name: 'int4',

  range: LEVELS * HALF_MAX,
  encodedBytes: (count) => SCALE_BYTES * blocksOf(count) + nibbleBytes(count),

  encode(vector, rng) {
    const codesAt = SCALE_BYTES * blocksOf(vector.length)
    const bytes = new Uint8Array(codesAt + nibbleBytes(vector.length))
    const codes = new Int8Array(vector.length)
    quantise({ name: 'int4', levels: LEVELS, rounding, rng }, vector, { scales: new DataView(bytes.buffer), codes })
    pack(codes, bytes, codesAt)
    return bytes
  },

  decode(bytes, count) {
    const blocks = blocksOf(count)
    const codesAt = SCALE_BYTES * blocks
    const fault = wrongLength(bytes, codesAt + nibbleBytes(count))
    if (fault !== undefined) return fault
    const scales = readScales(bytes, 0, blocks)
    if (!scales.ok) return scales
    if (count % 2 === 1 && bytes[bytes.length - 1]! >> 4 !== 0)
      return refused(reject('codec/malformed', 'the unused half of the last byte is not zero'))
    const vector = new Float32Array(count)
    for (let i = 0; i < count; i++) {
      const half = (bytes[codesAt + (i >> 1)]! >> (4 * (i & 1))) & 15
      if (half === 8) return refused(reject('codec/malformed', `code of element ${i} is -8`))
      vector[i] = ((half << 28) >> 28) * scales.value[i >> 8]!
    }
    return decoded(vector)
  }
})

export const int4Codec = int4Coder('stochastic')
