import { PeertuneError } from '../../base/errors.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import { requireFinite } from './blocks.js'
import type { VectorCodec } from '../codec.js'
import { riceDecode, riceEncode, riceMostBytes } from './rice.js'
import { largestMagnitudes } from './select.js'

export interface TopkInit {
  readonly name: 'topk' | 'topk-int4'
  /** Codes the kept values. */
  readonly values: VectorCodec
  /** Share of the elements that is sent, in (0, 0.5]. */
  readonly fraction: number
}

/** Bytes of the number of kept elements. */
const COUNT_BYTES = 4

/** Throws `codec/bad-fraction`. */
export function requireFraction(fraction: number): void {
  if (fraction > 0 && fraction <= 0.5) return
  throw new PeertuneError('codec/bad-fraction', `a sparse codec sends a share in (0, 0.5] of the elements`, {
    facts: { got: fraction }
  })
}

/**
 * The elements of largest magnitude. A contraction, ||v - Q(v)||^2 <= (1 - k/n) ||v||^2 before its values are coded
 * (Stich et al. 2018, https://arxiv.org/abs/1809.07599, lemma A.1); biased, so for edges: what is never sent never comes.
 *
 * Layout: uint32 kept, little-endian; the Rice parameter and gaps of the kept indices (rice.ts); the kept values in order
 * of index, as `values` codes them. With int8 values a tenth costs 0.159 bytes an element, a hundredth 0.020.
 */
export function topkCodec({ name, values, fraction }: TopkInit): VectorCodec {
  requireFraction(fraction)
  const most = (count: number): number => Math.min(count, Math.max(1, Math.floor(fraction * count)))
  return {
    name,
    variableLength: true,
    ...(values.range === undefined ? {} : { range: values.range }),

    encodedBytes: (count) => COUNT_BYTES + 1 + riceMostBytes(most(count), count) + values.encodedBytes(most(count)),

    encode(vector, rng) {
      requireFinite(vector)
      const indices = largestMagnitudes(vector, most(vector.length))
      const coded = values.encode(
        Float32Array.from(indices, (index) => vector[index]!),
        rng
      )
      const gaps = riceEncode(indices, vector.length)
      const bytes = new Uint8Array(COUNT_BYTES + gaps.length + coded.length)
      new DataView(bytes.buffer).setUint32(0, indices.length, true)
      bytes.set(gaps, COUNT_BYTES)
      bytes.set(coded, COUNT_BYTES + gaps.length)
      return bytes
    },

    decode(bytes, count) {
      if (bytes.length < COUNT_BYTES + 1) return refused(reject('codec/wrong-length', `${bytes.length} bytes`))
      const kept = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
      if (kept > most(count))
        return refused(reject('codec/malformed', `${kept} elements kept, at most ${most(count)} agreed`))
      const valuesAt = bytes.length - values.encodedBytes(kept)
      if (valuesAt < COUNT_BYTES + 1)
        return refused(reject('codec/wrong-length', `${bytes.length} bytes do not hold ${kept} elements`))
      const gaps = riceDecode(bytes.subarray(COUNT_BYTES, valuesAt), kept, count)
      if (!gaps.ok) return gaps
      if (COUNT_BYTES + gaps.value.bytes !== valuesAt)
        return refused(reject('codec/wrong-length', `${bytes.length} bytes, some of them behind the indices`))
      const coded = values.decode(bytes.subarray(valuesAt), kept)
      if (!coded.ok) return coded
      const vector = new Float32Array(count)
      gaps.value.indices.forEach((index, i) => {
        vector[index] = coded.value[i]!
      })
      return decoded(vector)
    }
  }
}
