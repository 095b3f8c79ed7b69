import type { Rng } from '../base/rng.js'
import type { Decoded } from '../base/verdict.js'

export type CodecName = 'float32' | 'int8'

export type CodecVerdictCode =
  | 'codec/unknown-codec'
  | 'codec/wrong-length'
  | 'codec/truncated'
  | 'codec/not-finite'
  | 'codec/bad-magic'
  | 'codec/unsupported-version'
  | 'codec/too-large'
  | 'codec/bad-checksum'
  | 'codec/malformed'

/**
 * A vector of float32 to bytes and back. Pure: the random source of stochastic rounding is handed in. What is encoded
 * is the difference from a reference both ends know, so small numbers, centred on zero.
 */
export interface VectorCodec {
  readonly name: CodecName
  /** Bytes of `encode` for `count` elements; lets a receiver check a length before it allocates. */
  encodedBytes(count: number): number
  encode(vector: Float32Array, rng: Rng): Uint8Array
  /** Never throws for what a peer sent; refuses NaN and infinities. */
  decode(bytes: Uint8Array, count: number): Decoded<Float32Array, CodecVerdictCode>
}
