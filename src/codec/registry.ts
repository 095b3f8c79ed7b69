import { PeertuneError } from '../base/errors.js'
import type { ParameterSchema } from '../tensor/schema.js'
import type { CodecContext, CodecName, VectorCodec } from './codec.js'
import { DEFAULT_FRACTION } from './codec.js'
import { edgeCoded } from './coders/edge.js'
import { float16Codec } from './coders/float16.js'
import { float32Codec } from './coders/float32.js'
import { int4Codec, int4Coder } from './coders/int4.js'
import { int8Codec, int8Coder } from './coders/int8.js'
import { powerGossipCodec } from './coders/powergossip.js'
import { rankSlotsCodec } from './coders/rank-slots.js'
import { signCodec } from './coders/sign.js'
import { topkCodec } from './coders/topk.js'

// With error feedback the nearest level is better than an unbiased one: half the error, and a contraction always.
const nearest8 = int8Coder('nearest')
const nearest4 = int4Coder('nearest')

const topk = ({ fraction = DEFAULT_FRACTION }: CodecContext, values: VectorCodec): VectorCodec =>
  topkCodec({ name: values.name === 'int4' ? 'topk-int4' : 'topk', values, fraction })

const rankSlots = (context: CodecContext, values: VectorCodec): VectorCodec =>
  rankSlotsCodec({ schema: schemaOf(context), values, fraction: context.fraction ?? DEFAULT_FRACTION })

/** Every codec a federation may name. A new one is one file and one line here. */
const CODECS: Readonly<Record<CodecName, (context: CodecContext) => VectorCodec>> = {
  float32: () => float32Codec,
  float16: () => float16Codec,
  int8: () => int8Codec,
  int4: () => int4Codec,
  sign: () => signCodec,
  topk: (context) => topk(context, int8Codec),
  'topk-int4': (context) => topk(context, int4Codec),
  'rank-slots': (context) => rankSlots(context, int8Codec),
  'int8-edge': () => edgeCoded('int8-edge', nearest8),
  'int4-edge': () => edgeCoded('int4-edge', nearest4),
  'sign-edge': () => edgeCoded('sign-edge', signCodec),
  'topk-edge': (context) => edgeCoded('topk-edge', topk(context, nearest8)),
  'topk-int4-edge': (context) => edgeCoded('topk-int4-edge', topk(context, nearest4)),
  'rank-slots-edge': (context) => edgeCoded('rank-slots-edge', rankSlots(context, nearest8)),
  powergossip: (context) => powerGossipCodec(schemaOf(context))
}

export const CODEC_NAMES = Object.keys(CODECS) as readonly CodecName[]

/** Made for a schema, and no use without one. */
export const needsSchema = (name: CodecName): boolean => name === 'powergossip' || name.startsWith('rank-slots')

/** Codes against what a partner was told before. */
export const hasMemory = (name: CodecName): boolean => name === 'powergossip' || name.endsWith('-edge')

/** Sends a share of the elements, `CodecContext.fraction`. */
export const isSparse = (name: CodecName): boolean => name.startsWith('topk') || name.startsWith('rank-slots')

/** Coders of what is broadcast: with error feedback, so to the nearest level; only sparse ones save what they are for. */
const PSEUDO_GRADIENTS = {
  int8: () => nearest8,
  int4: () => nearest4,
  topk: (context: CodecContext) => topk(context, nearest8),
  'topk-int4': (context: CodecContext) => topk(context, nearest4)
} as const

export type PseudoGradientCodec = keyof typeof PSEUDO_GRADIENTS
export const PSEUDO_GRADIENT_CODECS = Object.keys(PSEUDO_GRADIENTS) as readonly PseudoGradientCodec[]
export const isPseudoGradientCodec = (name: string): name is PseudoGradientCodec =>
  Object.hasOwn(PSEUDO_GRADIENTS, name)

/** Throws `codec/bad-fraction`. */
export const pseudoGradientCodec = (name: PseudoGradientCodec, context: CodecContext = {}): VectorCodec =>
  PSEUDO_GRADIENTS[name](context)

function schemaOf({ schema }: CodecContext): ParameterSchema {
  if (schema !== undefined) return schema
  throw new PeertuneError('codec/needs-schema', 'this codec is made for a parameter schema and was given none')
}

/** True for a name this build can code; what a peer names is checked with this before `codecByName`. */
export const isCodecName = (name: string): name is CodecName => Object.hasOwn(CODECS, name)

/** Throws `codec/needs-schema` and `codec/bad-fraction`. */
export const codecByName = (name: CodecName, context: CodecContext = {}): VectorCodec => CODECS[name](context)

/**
 * The step towards a partner at which gossip with this codec is stable: 1 for 8 bits and more, 0.9 for 4 bits and signs,
 * min(1, 2f) for the largest share f of the elements. Tuned on graphs of degree 4 and more after CHOCO-SGD's own scripts
 * (Koloskova et al. 2020, https://arxiv.org/abs/1907.09356, table 3); powergossip needs none (Vogels et al. 2020). Rank
 * slots are chosen by what they do and not by their size, so they keep less of a vector: f. With eight peers in random
 * pairs and f = 0.25, 1 diverges, 2f takes twice as long as f.
 */
export function defaultGamma(name: CodecName, fraction = DEFAULT_FRACTION): number {
  if (name.startsWith('rank-slots')) return fraction
  if (isSparse(name)) return Math.min(1, 2 * fraction)
  return name.startsWith('int4') || name.startsWith('sign') ? 0.9 : 1
}
