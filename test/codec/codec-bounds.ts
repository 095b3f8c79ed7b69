import type { CodecContext, CodecName } from '../../src/codec/codec.js'
import { DEFAULT_FRACTION } from '../../src/codec/codec.js'
import type { ParameterSchema } from '../../src/tensor/schema.js'

/** The most that ||v - Q(v)||^2 may be for this vector, coded in these bytes. */
export type ErrorBound = (vector: ArrayLike<number>, bytes: Uint8Array) => number

/** Elements that share a scale, and the two ways in which a binary16 scale is off: by a share, and near zero. */
const BLOCK = 256
const HALF_RELATIVE = 2 ** -10
const HALF_LEAST = 2 ** -24

const square = (x: number): number => x * x
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
export const energy = (vector: ArrayLike<number>): number => sum(Array.from(vector, square))

const blocksOf = (vector: ArrayLike<number>): number[][] => {
  const all = Array.from(vector)
  return Array.from({ length: Math.ceil(all.length / BLOCK) }, (_, block) =>
    all.slice(BLOCK * block, BLOCK * (block + 1))
  )
}

/** Step of a block's codes: its largest magnitude over the levels, rounded up to binary16. */
export const stepOf = (block: readonly number[], levels: number): number =>
  (Math.max(...block.map(Math.abs)) / levels) * (1 + HALF_RELATIVE) + HALF_LEAST

export const nothing: ErrorBound = () => 0

/** Half a unit in the last of 11 bits, or half the smallest binary16. */
const float16: ErrorBound = (vector) =>
  sum(Array.from(vector, (value) => square(Math.max(2 ** -11 * Math.abs(value), HALF_LEAST / 2))))

/** Half a step, and never more than the element. */
const nearest =
  (levels: number): ErrorBound =>
  (vector) =>
    sum(blocksOf(vector).flatMap((block) => block.map((v) => square(Math.min(stepOf(block, levels) / 2, Math.abs(v))))))

/** Less than a step; zeros stay zeros (QSGD, Alistarh et al. 2017). */
const stochastic =
  (levels: number): ErrorBound =>
  (vector) =>
    sum(blocksOf(vector).flatMap((block) => block.map((v) => (v === 0 ? 0 : square(stepOf(block, levels))))))

/**
 * Karimireddy et al. 2019, lemma 8: ||v||^2 - ||v||_1^2 / d, with d elements in a block; no other scale errs less. The
 * scale's own rounding adds d times its square.
 */
const scaledSign: ErrorBound = (vector) =>
  sum(
    blocksOf(vector).map((block) => {
      const mean = sum(block.map(Math.abs)) / block.length
      const rounding = Math.max((HALF_RELATIVE / 2) * mean, HALF_LEAST / 2)
      return energy(block) - block.length * square(mean) + block.length * square(rounding)
    })
  )

const keptOf = (count: number, fraction: number): number => Math.min(count, Math.max(1, Math.floor(fraction * count)))

/**
 * Stich et al. 2018, lemma A.1, before it is made a bound for all vectors: the energy of all but the k largest, at most
 * (1 - k/d) ||v||^2; and what coding the k values adds.
 */
export const largestKept =
  (fraction: number, values: ErrorBound): ErrorBound =>
  (vector, bytes) => {
    const order = Array.from(vector, (_, i) => i).sort((i, j) => Math.abs(vector[j]!) - Math.abs(vector[i]!) || i - j)
    const k = keptOf(vector.length, fraction)
    const kept = order.slice(0, k).sort((i, j) => i - j)
    const rest = order.slice(k)
    return energy(rest.map((i) => vector[i]!)) + values(nonZero(kept.map((i) => vector[i]!)), bytes)
  }

/** Zeros are not sent, so they are in nobody's block. */
const nonZero = (values: readonly number[]): number[] => values.filter((value) => value !== 0)

/**
 * LoRA-A2 (Koo et al. 2024) as rank-slots.ts has it, without a reference: greedily the rank-one terms of most effect per
 * element, ||db||^2 ||a/2||^2 + ||b/2||^2 ||da||^2 with a = da and b = db; rows of other tensors by their energy. What is
 * left out is the error. No share of the energy is promised for every vector: a term of which one factor is zero has no
 * effect and is not sent.
 */
export const slotsKept =
  (schema: ParameterSchema, fraction: number, values: ErrorBound): ErrorBound =>
  (vector, bytes) => {
    const slots = slotsOf(schema)
    const most = Math.max(Math.floor(fraction * schema.size), ...slots.map(({ at }) => at.length))
    const densities = slots.map(({ at, split }) => {
      const [a, b] = [at.slice(0, split), at.slice(split)].map((part) => energy(part.map((i) => vector[i]!)))
      return (split === at.length ? a! : (a! * b!) / 2) / at.length
    })
    const order = slots.map((_, i) => i).sort((i, j) => densities[j]! - densities[i]! || i - j)
    const sent = new Set<number>()
    let left = most
    for (const i of order) {
      const { length } = slots[i]!.at
      if (densities[i] === 0 || length > left) continue
      left -= length
      sent.add(i)
    }
    const of = (isSent: boolean) =>
      slots.flatMap(({ at }, i) => (sent.has(i) === isSent ? at.map((k) => vector[k]!) : []))
    return energy(of(false)) + values(of(true), bytes)
  }

interface TestSlot {
  readonly at: readonly number[]
  /** Elements of A, the rest are of B; all of them where there is no B. */
  readonly split: number
}

/** Rows of each A with the columns of its B, then rows of other matrices and whole vectors. */
function slotsOf({ entries }: ParameterSchema): TestSlot[] {
  const range = <T>(length: number, at: (k: number) => T): T[] => Array.from({ length }, (_, k) => at(k))
  const pairs = entries.flatMap((a) => {
    const b = entries.find(({ name }) => name === a.name.replace('lora_A', 'lora_B'))
    if (!a.name.includes('lora_A') || b === undefined) return []
    const [rank = 0, inputs = 0] = a.shape
    return range(rank, (i) => ({
      at: [
        ...range(inputs, (k) => a.offset + i * inputs + k),
        ...range(b.shape[0] ?? 0, (k) => b.offset + k * rank + i)
      ],
      split: inputs
    }))
  })
  const others = entries
    .filter(({ name }) => !name.includes('lora_'))
    .flatMap(({ offset, size, shape }) => {
      const length = shape.length > 1 ? (shape[1] as number) : size
      return range(size / length, (row) => ({ at: range(length, (k) => offset + row * length + k), split: length }))
    })
  return [...pairs, ...others]
}

/**
 * Vogels et al. 2020: a projection on a direction p of unit length, X p p^T. By Pythagoras it errs by ||X||^2 - ||X p||^2,
 * and X p is what the bytes are.
 */
const projected: ErrorBound = (vector, bytes) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return energy(vector) - energy(Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true)))
}

export function boundOf(name: CodecName, { schema, fraction = DEFAULT_FRACTION }: CodecContext): ErrorBound {
  const slots = (values: ErrorBound): ErrorBound => slotsKept(schema as ParameterSchema, fraction, values)
  const bounds: Readonly<Record<CodecName, ErrorBound>> = {
    float32: nothing,
    float16,
    int8: stochastic(127),
    int4: stochastic(7),
    sign: scaledSign,
    topk: largestKept(fraction, stochastic(127)),
    'topk-int4': largestKept(fraction, stochastic(7)),
    'rank-slots': slots(stochastic(127)),
    'int8-edge': nearest(127),
    'int4-edge': nearest(7),
    'sign-edge': scaledSign,
    'topk-edge': largestKept(fraction, nearest(127)),
    'topk-int4-edge': largestKept(fraction, nearest(7)),
    'rank-slots-edge': slots(nearest(127)),
    powergossip: projected
  }
  return bounds[name]
}
