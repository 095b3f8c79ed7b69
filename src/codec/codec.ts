import type { Rng } from '../base/rng.js'
import type { Decoded } from '../base/verdict.js'
import type { ParameterSchema } from '../tensor/schema.js'

/** Coders of the difference from the common start: nothing to remember between two exchanges. */
export type StatelessCodecName = 'float32' | 'float16' | 'int8' | 'int4' | 'sign' | 'topk' | 'topk-int4' | 'rank-slots'

/** Coders that remember, for each partner, what it has been told. `powergossip` remembers directions instead. */
export type EdgeCodecName =
  | 'int8-edge'
  | 'int4-edge'
  | 'sign-edge'
  | 'topk-edge'
  | 'topk-int4-edge'
  | 'rank-slots-edge'
  | 'powergossip'

export type CodecName = StatelessCodecName | EdgeCodecName

export type CodecVerdictCode =
  | 'codec/wrong-length'
  | 'codec/truncated'
  | 'codec/not-finite'
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
  /**
   * Bytes of `encode` for `count` elements; lets a receiver check a length before it allocates. The most of them where
   * `variableLength` is set.
   */
  encodedBytes(count: number): number
  readonly variableLength?: true
  /** The largest magnitude that `encode` takes; absent: any finite one. */
  readonly range?: number
  /**
   * `reference` is what the vector is a difference from; coders that weigh a change by its effect on a product of
   * factors need it. Throws `codec/not-finite` and `codec/out-of-range` for our own vector.
   */
  encode(vector: Float32Array, rng: Rng, reference?: Float32Array): Uint8Array
  /** Never throws for what a peer sent; refuses NaN and infinities. */
  decode(bytes: Uint8Array, count: number): Decoded<Float32Array, CodecVerdictCode>
  /** Absent: every exchange codes the difference from the common start. */
  readonly edge?: EdgeCoding
}

/** What both ends of an edge know of it, the same bits on both; `own` and `partner` change places at the other end. */
export interface EdgeMemory {
  /** float32[n]: what the partner takes us for; the start before the first exchange. */
  readonly own: Float32Array
  /** float32[n]: what we take the partner for. */
  readonly partner: Float32Array
  /** Of a coder that projects: where to, for every matrix one behind the other. */
  readonly directions?: Float32Array
  /** Exchanges behind this memory. */
  readonly turns: number
}

/** How a coder makes use of what an edge remembers. Pure: a memory is replaced, never changed. */
export interface EdgeCoding {
  /** The memory of an edge without a past. */
  begin(start: Float32Array): EdgeMemory
  /** Throws as `VectorCodec.encode` does. */
  encode(parameters: Float32Array, memory: EdgeMemory, rng: Rng): Uint8Array
  /** The whole vector these bytes stand for, float32[n]; may overflow to infinities. Never throws for what a peer sent. */
  decode(bytes: Uint8Array, memory: EdgeMemory, whose: 'own' | 'partner'): Decoded<Float32Array, CodecVerdictCode>
  /** After an exchange in which the two ends were taken for these vectors. */
  next(memory: EdgeMemory, own: Float32Array, partner: Float32Array): EdgeMemory
  /** Float32 elements one memory keeps, for a bound on all of them. */
  memoryElements(count: number): number
}

/** What some coders are made for. */
export interface CodecContext {
  /** Needed by `rank-slots` and `powergossip`. */
  readonly schema?: ParameterSchema
  /** Share of the elements that a sparse coder sends, in (0, 0.5]. Default DEFAULT_FRACTION. */
  readonly fraction?: number
}

/** One element in ten: the sparsest that still converges within some ten exchanges on an edge. */
export const DEFAULT_FRACTION = 0.1
