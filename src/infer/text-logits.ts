import { PeertuneError } from '../base/errors.js'
import type { BatchTensor } from '../data/batches/batch.js'
import type { NextLogits } from './decode.js'
import type { Forward, InputTensors } from './forward.js'

export interface TextModel {
  readonly forward: Pick<Forward, 'run'>
  /** The model's own inputs; a symbolic dimension is a name. */
  readonly inputs: readonly { readonly name: string; readonly shape: readonly (number | string)[] }[]
  /** Positions that the model has for text. */
  readonly context: number
}

/** The shortest graph of a text; each bucket after it is twice as long, so that few graphs serve all lengths. */
const SHORTEST_BUCKET = 32

/** Positions that texts of `length` tokens are padded to. */
export function bucketOf(length: number, context: number): number {
  let bucket = SHORTEST_BUCKET
  while (bucket < length) bucket *= 2
  return Math.min(Math.max(length, bucket), Math.max(length, context))
}

/**
 * The next token's logits of a causal model without a key/value cache: the whole text runs through a graph of its
 * length's bucket, padded on the right, where no position before sees it, and the logits of its last token alone are
 * computed. Throws `infer/no-text-input` for a model that wants more than text.
 */
export function createNextLogits({ forward, inputs, context }: TextModel): NextLogits {
  const fixed = fixedLength(inputs)
  return async (ids) => {
    const length = fixed ?? bucketOf(ids.length, context)
    if (ids.length > length)
      throw new PeertuneError('infer/prompt-too-long', `${ids.length} tokens, expected at most ${length}`, {
        facts: { got: ids.length, expected: length },
        hint: 'give a shorter text'
      })
    const { data } = await forward.run(textInputs(inputs, ids, length), [ids.length - 1])
    return data as Float32Array
  }
}

const fixedLength = (inputs: TextModel['inputs']): number | undefined => {
  const length = inputs.find(({ name }) => name === 'input_ids')?.shape[1]
  return typeof length === 'number' ? length : undefined
}

/** One row of text as a model takes it, zeros behind it. */
export function textInputs(inputs: TextModel['inputs'], ids: Int32Array, length: number): InputTensors {
  const shape = [1, length]
  const padded = (value: (index: number) => number): BatchTensor => ({
    type: 'int64',
    shape,
    data: Int32Array.from({ length }, (_, index) => value(index))
  })
  const known: Readonly<Record<string, () => BatchTensor>> = {
    input_ids: () => padded((index) => ids[index] ?? 0),
    attention_mask: () => padded((index) => (index < ids.length ? 1 : 0)),
    token_type_ids: () => padded(() => 0),
    position_ids: () => padded((index) => index)
  }
  return Object.fromEntries(
    inputs.map(({ name }) => {
      const make = known[name]
      if (make !== undefined) return [name, make()]
      throw new PeertuneError('infer/no-text-input', `the model's input ${name} cannot be made from a text`, {
        facts: { input: name, expected: Object.keys(known) },
        hint: 'export the model without it, for text alone'
      })
    })
  )
}
