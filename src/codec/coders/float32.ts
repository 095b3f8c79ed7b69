import { PeertuneError } from '../../base/errors.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import type { VectorCodec } from '../codec.js'

const BYTES_PER_ELEMENT = 4

/** Little-endian IEEE 754 binary32, nothing else. Exact; four bytes an element. The yardstick for the other codecs. */
export const float32Codec: VectorCodec = {
  name: 'float32',

  encodedBytes: (count) => BYTES_PER_ELEMENT * count,

  encode(vector) {
    const bytes = new Uint8Array(BYTES_PER_ELEMENT * vector.length)
    const view = new DataView(bytes.buffer)
    for (let i = 0; i < vector.length; i++) {
      const value = vector[i]!
      if (!Number.isFinite(value))
        throw new PeertuneError('codec/not-finite', `element ${i} is ${value}: only finite numbers can be sent`, {
          facts: { index: i, got: String(value) }
        })
      view.setFloat32(BYTES_PER_ELEMENT * i, value, true)
    }
    return bytes
  },

  decode(bytes, count) {
    const expected = BYTES_PER_ELEMENT * count
    if (bytes.length !== expected)
      return refused(reject('codec/wrong-length', `expected ${expected} bytes, got ${bytes.length}`))
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const vector = new Float32Array(count)
    for (let i = 0; i < count; i++) {
      const value = view.getFloat32(BYTES_PER_ELEMENT * i, true)
      if (!Number.isFinite(value)) return refused(reject('codec/not-finite', `element ${i} is ${value}`))
      vector[i] = value
    }
    return decoded(vector)
  }
}
