import { sha256Hex } from '../../base/bytes.js'

/** What a node logs when it goes on from a checkpoint, with `step`, `exchanges`, `sha256` and `pid`; who kills nodes looks for it. */
export const RESUMED = 'goes on with these parameters'

/** Of the float32 values as they lie in memory. */
export const parametersSha256 = ({ buffer, byteOffset, byteLength }: Float32Array): string =>
  sha256Hex(new Uint8Array(buffer, byteOffset, byteLength))
