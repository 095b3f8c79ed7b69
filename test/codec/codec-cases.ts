import fc from 'fast-check'
import { seededRng } from '../../src/base/rng.js'
import type { Decoded } from '../../src/base/verdict.js'
import type { CodecName, CodecVerdictCode, VectorCodec } from '../../src/codec/codec.js'
import { float32Codec } from '../../src/codec/coders/float32.js'
import { rankSlotsCodec } from '../../src/codec/coders/rank-slots.js'
import { CODEC_NAMES, codecByName, needsSchema } from '../../src/codec/registry.js'
import { topkCodec } from '../../src/codec/coders/topk.js'
import { createSchema } from '../../src/tensor/schema.js'
import { boundOf, type ErrorBound, largestKept, nothing, slotsKept } from './codec-bounds.js'

/** Two LoRA pairs of unequal shapes, a head and a bias: 4*30 + 20*4 + 2*9 + 11*2 + 5*16 + 7 = 327 elements. */
export const schema = createSchema([
  { name: 'q.lora_A.weight', shape: [4, 30] },
  { name: 'q.lora_B.weight', shape: [20, 4] },
  { name: 'v.lora_A.weight', shape: [2, 9] },
  { name: 'v.lora_B.weight', shape: [11, 2] },
  { name: 'head.weight', shape: [5, 16] },
  { name: 'head.bias', shape: [7] }
])

export interface CodecCase {
  readonly label: string
  readonly name: CodecName
  readonly codec: VectorCodec
  /** Elements it can code; a coder made for a schema knows one size only. */
  readonly sizes: fc.Arbitrary<number>
  readonly size: number
  /** The most that ||v - Q(v)||^2 may be, for just this vector; see codec-bounds.ts. */
  readonly bound: ErrorBound
}

const registered: readonly CodecCase[] = CODEC_NAMES.map((name) => ({
  label: name,
  name,
  codec: codecByName(name, { schema }),
  sizes: needsSchema(name) ? fc.constant(schema.size) : fc.nat(700),
  size: needsSchema(name) ? schema.size : 700,
  bound: boundOf(name, { schema })
}))

export const EXACT_FRACTIONS = [0.05, 0.5] as const

/** With values that are exact, so that an error is one of choice: a single element too few is seen whatever its size. */
const exact: readonly CodecCase[] = EXACT_FRACTIONS.flatMap((fraction): CodecCase[] => [
  {
    label: `topk of a share of ${fraction} in float32`,
    name: 'topk',
    codec: topkCodec({ name: 'topk', values: float32Codec, fraction }),
    sizes: fc.nat(700),
    size: 700,
    bound: largestKept(fraction, nothing)
  },
  {
    label: `rank-slots of a share of ${fraction} in float32`,
    name: 'rank-slots',
    codec: rankSlotsCodec({ schema, values: float32Codec, fraction }),
    sizes: fc.constant(schema.size),
    size: schema.size,
    bound: slotsKept(schema, fraction, nothing)
  }
])

export const CASES: readonly CodecCase[] = [...registered, ...exact]

/** Vectors a case can code; float16 ends at 65504. */
export const vectorsOf = ({ sizes }: CodecCase): fc.Arbitrary<Float32Array> =>
  sizes.chain((size) => fc.float32Array({ minLength: size, maxLength: size, noNaN: true, min: -6e4, max: 6e4 }))

export const accepted = <T>(result: Decoded<T, CodecVerdictCode>): T => {
  if (!result.ok) throw new Error(JSON.stringify(result.verdict))
  return result.value
}

export const codeOf = (result: Decoded<unknown, CodecVerdictCode>): string | undefined =>
  result.ok || result.verdict.verdict === 'accept' ? undefined : result.verdict.code

export const through = (codec: VectorCodec, vector: Float32Array, ...seed: (string | number)[]): Float32Array =>
  accepted(codec.decode(codec.encode(vector, seededRng('through', ...seed)), vector.length))

/** Standard normal numbers by Box and Muller. */
export function gaussian(size: number, ...seed: (string | number)[]): Float32Array {
  const rng = seededRng('gaussian', ...seed)
  return Float32Array.from(
    { length: size },
    () => Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform())
  )
}
