import { decoded, refused, reject } from '../../base/verdict.js'
import { HALF_MAX } from '../../tensor/half.js'
import type { Rounding } from './blocks.js'
import { BLOCK, blocksOf, quantise, readScales, SCALE_BYTES, wrongLength } from './blocks.js'
import type { VectorCodec } from '../codec.js'

export const INT8_BLOCK = BLOCK

/** Symmetric levels -127..127; -128 is never written, so that x and -x have mirrored codes. */
const LEVELS = 127

/** Largest magnitude a binary16 scale can carry. A difference from the common start this large means divergence. */
export const INT8_MAX_MAGNITUDE = HALF_MAX * LEVELS

/**
 * 8-bit block quantisation. With stochastic rounding unbiased, E[decode(encode(v))] = v, with an error below one scale
 * step per element (QSGD, Alistarh et al. 2017, https://arxiv.org/abs/1610.02132, with the max norm of a block as scale).
 *
 * Layout: ceil(count / 256) binary16 scales, little-endian, then `count` int8 codes; 1.008 bytes an element. Element i is
 * code[i] * scale[i / 256], exact in float32 (7 + 11 significant bits).
 */
export const int8Coder = (rounding: Rounding): VectorCodec => ({
  name: 'int8',

  range: INT8_MAX_MAGNITUDE,
  encodedBytes: (count) => SCALE_BYTES * blocksOf(count) + count,

  encode(vector, rng) {
    const codesAt = SCALE_BYTES * blocksOf(vector.length)
    const bytes = new Uint8Array(codesAt + vector.length)
    const codes = new Int8Array(bytes.buffer, codesAt, vector.length)
    quantise({ name: 'int8', levels: LEVELS, rounding, rng }, vector, { scales: new DataView(bytes.buffer), codes })
    return bytes
  },

  decode(bytes, count) {
    const blocks = blocksOf(count)
    const codesAt = SCALE_BYTES * blocks
    const fault = wrongLength(bytes, codesAt + count)
    if (fault !== undefined) return fault
    const scales = readScales(bytes, 0, blocks)
    if (!scales.ok) return scales
    const codes = new Int8Array(bytes.buffer, bytes.byteOffset + codesAt, count)
    const vector = new Float32Array(count)
    for (let i = 0; i < count; i++) {
      const code = codes[i]!
      if (code < -LEVELS) return refused(reject('codec/malformed', `code of element ${i} is ${code}`))
      vector[i] = code * scales.value[i >> 8]!
    }
    return decoded(vector)
  }
})

export const int8Codec = int8Coder('stochastic')
