import type { Decoded } from '../../src/base/verdict.js'
import { MAX_FUZZ_BYTES } from './fuzz-frames.js'

/** A decoder that strangers reach. */
export interface FuzzTarget {
  readonly name: string
  /** Well-formed frames, to be changed. */
  readonly seeds: readonly Uint8Array[]
  /** Bytes that one frame, whatever is in it, may make the decoder ask for. */
  readonly mostBytes: number
  /** A verdict or a value. Throwing, and what `flaw` finds in a value, is a bug. */
  decode(frame: Uint8Array): Decoded<unknown> | Promise<Decoded<unknown>>
  flaw?(value: unknown): string | undefined
}

/** What can be read can be written, and reads the same again. */
export const sameAgain =
  <T>(encode: (value: T) => Uint8Array, decode: (bytes: Uint8Array) => Decoded<T>) =>
  (value: unknown): string | undefined => {
    const again = decode(encode(value as T))
    return again.ok && JSON.stringify(again.value) === JSON.stringify(value) ? undefined : 'does not survive the wire'
  }

/** Small frames: fields of a message are copied out of it a few times at most. */
export const MESSAGE_BYTES = 4 * MAX_FUZZ_BYTES
