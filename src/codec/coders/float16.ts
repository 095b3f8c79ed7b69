import { decoded, refused, reject } from '../../base/verdict.js'
import { float32ToHalf, fromHalf, HALF_MAX } from '../../tensor/half.js'
import { requireFinite, requireInRange, wrongLength } from './blocks.js'
import type { VectorCodec } from '../codec.js'

const BYTES_PER_ELEMENT = 2

/** The value of every pattern, float32[65536]: a table is ten times faster than arithmetic. Made on first use. */
let values: Float32Array | undefined
const valueTable = (): Float32Array => {
  values ??= Float32Array.from({ length: 0x10000 }, (_, bits) => fromHalf(bits))
  return values
}

/** Little-endian IEEE 754 binary16, rounded to nearest: relative error at most 2^-11, or 2^-25 absolute near zero. */
export const float16Codec: VectorCodec = {
  name: 'float16',

  range: HALF_MAX,
  encodedBytes: (count) => BYTES_PER_ELEMENT * count,

  encode(vector) {
    requireFinite(vector)
    const bytes = new Uint8Array(BYTES_PER_ELEMENT * vector.length)
    const view = new DataView(bytes.buffer)
    const patterns = new Uint32Array(vector.buffer, vector.byteOffset, vector.length)
    for (let i = 0; i < vector.length; i++) {
      const bits = float32ToHalf(patterns[i]!)
      if ((bits & 0x7c00) === 0x7c00) requireInRange('float16', Math.abs(vector[i]!), HALF_MAX)
      view.setUint16(BYTES_PER_ELEMENT * i, bits, true)
    }
    return bytes
  },

  decode(bytes, count) {
    const fault = wrongLength(bytes, BYTES_PER_ELEMENT * count)
    if (fault !== undefined) return fault
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const vector = new Float32Array(count)
    const table = valueTable()
    for (let i = 0; i < count; i++) {
      const bits = view.getUint16(BYTES_PER_ELEMENT * i, true)
      if ((bits & 0x7c00) === 0x7c00) return refused(reject('codec/not-finite', `element ${i} is ${fromHalf(bits)}`))
      vector[i] = table[bits]!
    }
    return decoded(vector)
  }
}
