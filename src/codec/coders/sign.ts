import { decoded, refused, reject } from '../../base/verdict.js'
import { HALF_MAX, toHalf } from '../../tensor/half.js'
import { BLOCK, blocksOf, readScales, requireFinite, requireInRange, SCALE_BYTES, wrongLength } from './blocks.js'
import type { VectorCodec } from '../codec.js'

const signBytes = (count: number): number => Math.ceil(count / 8)

/**
 * Sign and scale: each element becomes +-mean(|v|) of its block of 256. Biased; a contraction with
 * ||v - Q(v)||^2 = ||v||^2 - ||v||_1^2 / 256 per block (Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847, lemma
 * 8), so good for dense vectors and poor for heavy tails. For edges: without error feedback it does not converge.
 *
 * Layout: ceil(count / 256) binary16 scales, little-endian, then ceil(count / 8) bytes of signs, element 0 in the lowest
 * bit of the first, 1 for negative; unused bits are zero. 0.133 bytes an element.
 */
export const signCodec: VectorCodec = {
  name: 'sign',
  range: HALF_MAX,

  encodedBytes: (count) => SCALE_BYTES * blocksOf(count) + signBytes(count),

  encode(vector) {
    requireFinite(vector)
    const signsAt = SCALE_BYTES * blocksOf(vector.length)
    const bytes = new Uint8Array(signsAt + signBytes(vector.length))
    const view = new DataView(bytes.buffer)
    for (let block = 0, start = 0; start < vector.length; block++, start += BLOCK) {
      const end = Math.min(start + BLOCK, vector.length)
      let sum = 0
      for (let i = start; i < end; i++) sum += Math.abs(vector[i]!)
      requireInRange('sign', sum / (end - start), HALF_MAX)
      view.setUint16(SCALE_BYTES * block, toHalf(sum / (end - start)), true)
      for (let i = start; i < end; i++) if (vector[i]! < 0) bytes[signsAt + (i >> 3)]! |= 1 << (i & 7)
    }
    return bytes
  },

  decode(bytes, count) {
    const blocks = blocksOf(count)
    const signsAt = SCALE_BYTES * blocks
    const fault = wrongLength(bytes, signsAt + signBytes(count))
    if (fault !== undefined) return fault
    const scales = readScales(bytes, 0, blocks)
    if (!scales.ok) return scales
    if (count % 8 !== 0 && bytes[bytes.length - 1]! >> (count % 8) !== 0)
      return refused(reject('codec/malformed', 'unused sign bits are not zero'))
    const vector = new Float32Array(count)
    for (let i = 0; i < count; i++) {
      const scale = scales.value[i >> 8]!
      vector[i] = (bytes[signsAt + (i >> 3)]! >> (i & 7)) & 1 ? -scale : scale
    }
    return decoded(vector)
  }
}
