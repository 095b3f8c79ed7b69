import type { CodecName, VectorCodec } from './codec.js'
import { float32Codec } from './float32.js'
import { int8Codec } from './int8.js'

/** Every codec a federation may name. A new one is one file and one line here. */
const CODECS: Readonly<Record<CodecName, VectorCodec>> = { float32: float32Codec, int8: int8Codec }

export const CODEC_NAMES = Object.keys(CODECS) as readonly CodecName[]

/** True for a name this build can code; what a peer names is checked with this before `codecByName`. */
export const isCodecName = (name: string): name is CodecName => Object.hasOwn(CODECS, name)

export const codecByName = (name: CodecName): VectorCodec => CODECS[name]
