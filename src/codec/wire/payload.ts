import { sha256Hex } from '../../base/bytes.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import type { CodecVerdictCode, VectorCodec } from '../codec.js'
import type { PayloadHeader } from './messages.js'

/** Bytes of one raw frame of a payload: large enough to fill a stream window (256 KiB), small enough to interleave. */
export const PAYLOAD_CHUNK_BYTES = 256 * 1024

/** Bytes of one side of an exchange: 128 million float32 parameters; beyond it an exchange takes minutes on any uplink. */
export const MAX_PAYLOAD_BYTES = 512 * 1024 * 1024

export const payloadHeader = (payload: Uint8Array): PayloadHeader => ({
  sizeBytes: payload.length,
  sha256: sha256Hex(payload)
})

/** The frames that carry a payload, in order; views, not copies. */
export function* payloadChunks(payload: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < payload.length; at += PAYLOAD_CHUNK_BYTES) yield payload.subarray(at, at + PAYLOAD_CHUNK_BYTES)
}

/** Puts a payload together again; `add` gives it back whole with the last chunk, `undefined` before. */
export interface PayloadAssembler {
  add(chunk: Uint8Array): Decoded<Uint8Array | undefined, CodecVerdictCode>
}

/** What the agreed codec needs for the agreed schema: exactly `bytes`, or up to it where the length varies. */
export interface PayloadBound {
  readonly bytes: number
  readonly variableLength?: boolean
}

export const payloadBound = (codec: VectorCodec, count: number): PayloadBound => ({
  bytes: codec.encodedBytes(count),
  variableLength: codec.variableLength ?? false
})

/**
 * Makes room for the payload a header announces, once its length is one that the bound allows (a number: exactly that), so a peer cannot make us
 * allocate anything else. Chunk sizes are fixed by the
 * length, so an empty or oversized chunk is refused and a payload ends after a known number of frames.
 */
export function payloadAssembler(
  header: PayloadHeader,
  bound: PayloadBound | number
): Decoded<PayloadAssembler, CodecVerdictCode> {
  const { sizeBytes } = header
  if (sizeBytes > MAX_PAYLOAD_BYTES)
    return refused(reject('codec/too-large', `payload of ${sizeBytes} bytes, at most ${MAX_PAYLOAD_BYTES}`))
  const { bytes, variableLength }: PayloadBound = typeof bound === 'number' ? { bytes: bound } : bound
  const fits = variableLength ? sizeBytes >= 1 && sizeBytes <= bytes : sizeBytes === bytes
  if (!fits) return refused(reject('codec/wrong-length', `payload of ${sizeBytes} bytes, expected ${bytes}`))
  const whole = new Uint8Array(sizeBytes)
  let filled = 0
  return decoded({
    add(chunk) {
      const expected = Math.min(PAYLOAD_CHUNK_BYTES, sizeBytes - filled)
      if (chunk.length !== expected)
        return refused(reject('codec/wrong-length', `chunk of ${chunk.length} bytes, expected ${expected}`))
      whole.set(chunk, filled)
      filled += chunk.length
      return decoded(filled === sizeBytes ? whole : undefined)
    }
  })
}
