import { decoded, refused, reject } from '../../base/verdict.js'
import { factorsOf } from '../../tensor/factors.js'
import type { FactorPair } from '../../tensor/factors.js'
import type { ParameterEntry, ParameterSchema } from '../../tensor/schema.js'
import { requireFinite } from './blocks.js'
import type { VectorCodec } from '../codec.js'
import { requireFraction } from './topk.js'

export interface RankSlotsInit {
  readonly schema: ParameterSchema
  /** Codes the elements of the slots that are sent. */
  readonly values: VectorCodec
  /** Share of the elements that is sent, in (0, 0.5]; at least one slot is. */
  readonly fraction: number
}

/** Elements that are sent together or not at all. */
interface Slot {
  readonly elements: Uint32Array
  /** What the change of these elements does to the model, squared. */
  weight(change: Float32Array, reference: Float32Array | undefined): number
}

/** Row `index` of A and column `index` of B: one rank-one term of the update. */
function rankSlot({ a, b, rank, inFeatures, outFeatures }: FactorPair, index: number): Slot {
  const elements = new Uint32Array(inFeatures + outFeatures)
  for (let k = 0; k < inFeatures; k++) elements[k] = a.offset + index * inFeatures + k
  for (let k = 0; k < outFeatures; k++) elements[inFeatures + k] = b.offset + k * rank + index
  return {
    elements,
    weight(change, reference) {
      const rows = sums(elements.subarray(0, inFeatures), change, reference)
      const columns = sums(elements.subarray(inFeatures), change, reference)
      // To first order, and without letting the two terms cancel: ||db||^2 ||a||^2 + ||b||^2 ||da||^2.
      return columns.changed * rows.middle + columns.middle * rows.changed
    }
  }
}

/** Squared norms of a change and of the point half way through it. */
function sums(elements: Uint32Array, change: Float32Array, reference: Float32Array | undefined) {
  let changed = 0
  let middle = 0
  for (let k = 0; k < elements.length; k++) {
    const at = elements[k]!
    const moved = change[at]!
    const half = (reference?.[at] ?? 0) + moved / 2
    changed += moved * moved
    middle += half * half
  }
  return { changed, middle }
}

/** Consecutive elements of a tensor that is no factor: a row of a matrix, all of a vector. */
function plainSlots({ offset, size, shape }: ParameterEntry): Slot[] {
  const length = shape.length > 1 ? size / shape[0]! : size
  return Array.from({ length: size / length }, (_, row) => {
    const elements = Uint32Array.from({ length }, (_unused, k) => offset + row * length + k)
    return { elements, weight: (change) => sums(elements, change, undefined).changed }
  })
}

const bit = (bytes: Uint8Array, at: number): number => (bytes[at >> 3]! >> (at & 7)) & 1

/**
 * Whole rank slots of LoRA, those whose change does most to the product B A for the elements it costs: the structured
 * sparsity of LoRA-A2 (Koo et al. 2024, https://arxiv.org/abs/2410.22815), whose score is ||dB[:, i] A[i, :]||_F. Other
 * tensors are sent by rows. No index per element. For edges: a slot that is not sent keeps its change until it is.
 *
 * Layout: one bit for each slot in schema order (factor pairs, then other tensors), lowest bit first; then the elements of
 * the slots that are sent, slot by slot, as `values` codes them.
 */
export function rankSlotsCodec({ schema, values, fraction }: RankSlotsInit): VectorCodec {
  requireFraction(fraction)
  const { pairs, others } = factorsOf(schema)
  const slots = [
    ...pairs.flatMap((pair) => Array.from({ length: pair.rank }, (_, index) => rankSlot(pair, index))),
    ...others.flatMap(plainSlots)
  ]
  const largest = slots.reduce((most, { elements }) => Math.max(most, elements.length), 0)
  const budget = Math.max(largest, Math.floor(fraction * schema.size))
  const maskBytes = Math.ceil(slots.length / 8)

  /** Greedily by effect per element, within the budget. */
  function choose(change: Float32Array, reference: Float32Array | undefined): Uint8Array {
    const mask = new Uint8Array(maskBytes)
    const scored = slots.map((slot, index) => ({
      index,
      size: slot.elements.length,
      score: slot.weight(change, reference) / slot.elements.length
    }))
    let left = budget
    for (const { index, size, score } of scored.sort((x, y) => y.score - x.score || x.index - y.index)) {
      if (score === 0 || size > left) continue
      left -= size
      mask[index >> 3]! |= 1 << (index & 7)
    }
    return mask
  }

  const chosen = (mask: Uint8Array): readonly Slot[] => slots.filter((_, index) => bit(mask, index) === 1)
  const sizeOf = (sent: readonly Slot[]): number => sent.reduce((sum, { elements }) => sum + elements.length, 0)

  return {
    name: 'rank-slots',
    ...(values.range === undefined ? {} : { range: values.range }),
    variableLength: true,

    encodedBytes: () => maskBytes + values.encodedBytes(Math.min(budget, schema.size)),

    encode(vector, rng, reference) {
      requireFinite(vector)
      const mask = choose(vector, reference)
      const sent = chosen(mask)
      const gathered = new Float32Array(sizeOf(sent))
      let at = 0
      for (const { elements } of sent) for (const element of elements) gathered[at++] = vector[element]!
      const coded = values.encode(gathered, rng)
      const bytes = new Uint8Array(maskBytes + coded.length)
      bytes.set(mask)
      bytes.set(coded, maskBytes)
      return bytes
    },

    decode(bytes, count) {
      if (count !== schema.size || bytes.length < maskBytes)
        return refused(reject('codec/wrong-length', `${bytes.length} bytes, ${maskBytes} of them say which slots`))
      const sent = chosen(bytes)
      const size = sizeOf(sent)
      if (size > budget) return refused(reject('codec/malformed', `${size} elements sent, at most ${budget} agreed`))
      if (slots.length % 8 !== 0 && bytes[maskBytes - 1]! >> (slots.length % 8) !== 0)
        return refused(reject('codec/malformed', 'bits behind the last slot are not zero'))
      const coded = values.decode(bytes.subarray(maskBytes), size)
      if (!coded.ok) return coded
      const vector = new Float32Array(count)
      let at = 0
      for (const { elements } of sent) for (const element of elements) vector[element] = coded.value[at++]!
      return decoded(vector)
    }
  }
}
