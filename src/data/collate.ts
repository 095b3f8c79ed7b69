import { PeertuneError } from '../base/errors.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from './batch.js'

/** What a data source must know of a model: its graph inputs. */
export interface ModelInputs {
  readonly inputs: readonly { readonly name: string; readonly shape: readonly (number | string)[] }[]
}

/** One row of a batch before it is one. */
export interface Example {
  /** An image, float32[channel * height * width] row major; or the token ids of a sequence, special tokens included. */
  readonly values: Float32Array | Int32Array
  /** Index among the task's labels; IGNORED_LABEL where the values are their own labels (a causal language model). */
  readonly label: number
}

/** Inputs that a language model may ask for; everything in them follows from the token ids. */
const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'] as const
type TokenInput = (typeof TOKEN_INPUTS)[number]

/** pixels -> `<inputName>` float32[rows, ...shape], labels [rows]. Missing rows are black and ignored. */
export function imageCollator(inputName: string, shape: readonly [number, number, number]) {
  const size = shape[0] * shape[1] * shape[2]
  return (examples: readonly Example[], rows: number): Batch => {
    const data = new Float32Array(rows * size)
    const labels = new Int32Array(rows).fill(IGNORED_LABEL)
    examples.forEach(({ values, label }, row) => {
      data.set(values, row * size)
      labels[row] = label
    })
    return {
      inputs: { [inputName]: { type: 'float32', shape: [rows, ...shape], data } },
      labels: { shape: [rows], data: labels }
    }
  }
}

/**
 * Full sequences of `length` tokens for next-token prediction: labels[b, t] is the token at t + 1, the last column
 * and missing rows are ignored.
 */
export function causalCollator(inputs: readonly TokenInput[], length: number) {
  return (examples: readonly Example[], rows: number): Batch => {
    const ids = new Int32Array(rows * length)
    const labels = new Int32Array(rows * length).fill(IGNORED_LABEL)
    examples.forEach(({ values }, row) => {
      ids.set(values, row * length)
      labels.set(values.subarray(1), row * length)
    })
    const mask = new Int32Array(rows * length).fill(1)
    return { inputs: tokenInputs(inputs, ids, mask, [rows, length]), labels: { shape: [rows, length], data: labels } }
  }
}

/**
 * Rows of at most `length` tokens padded with `padId`, mask 0 over the padding, labels [rows]. A missing row keeps
 * one unmasked position: a softmax over nothing would be NaN.
 */
export function classificationCollator(inputs: readonly TokenInput[], length: number, padId: number) {
  return (examples: readonly Example[], rows: number): Batch => {
    const ids = new Int32Array(rows * length).fill(padId)
    const mask = new Int32Array(rows * length)
    const labels = new Int32Array(rows).fill(IGNORED_LABEL)
    for (let row = 0; row < rows; row++) mask[row * length] = 1
    examples.forEach(({ values, label }, row) => {
      ids.set(values, row * length)
      mask.fill(1, row * length, row * length + values.length)
      labels[row] = label
    })
    return { inputs: tokenInputs(inputs, ids, mask, [rows, length]), labels: { shape: [rows], data: labels } }
  }
}

function tokenInputs(
  wanted: readonly TokenInput[],
  ids: Int32Array,
  mask: Int32Array,
  shape: readonly [number, number]
): Record<string, BatchTensor> {
  const make: Record<TokenInput, () => Int32Array> = {
    input_ids: () => ids,
    attention_mask: () => mask,
    token_type_ids: () => new Int32Array(ids.length),
    position_ids: () => Int32Array.from(ids, (_, i) => i % shape[1])
  }
  return Object.fromEntries(wanted.map((name) => [name, { type: 'int64', shape, data: make[name]() }]))
}

/** The token inputs a model asks for, in its order. Throws `data/model-mismatch` for one that tokens cannot answer. */
export function tokenInputsOf(model: ModelInputs): readonly TokenInput[] {
  const names = model.inputs.map(({ name }) => name)
  const stranger = names.find((name) => !(TOKEN_INPUTS as readonly string[]).includes(name))
  if (stranger !== undefined || !names.includes('input_ids'))
    throw new PeertuneError('data/model-mismatch', `the model asks for ${names.join(', ')}, which text cannot feed`, {
      facts: { inputs: names, expected: [...TOKEN_INPUTS] },
      hint: stranger === undefined ? 'it has no input named input_ids' : `no data source makes ${stranger}`
    })
  return names as TokenInput[]
}

/** The one image input of a model. Throws `data/model-mismatch` unless it takes float32[batch, ...shape]. */
export function imageInputOf(model: ModelInputs, shape: readonly [number, number, number]): string {
  const [input, ...others] = model.inputs
  const fits = input?.shape.length === 4 && shape.every((dim, i) => isDim(input.shape[i + 1], dim))
  if (input === undefined || others.length > 0 || !fits)
    throw new PeertuneError('data/model-mismatch', `the model does not take images of ${shape.join(' x ')}`, {
      facts: {
        inputs: model.inputs.map((each) => `${each.name}[${each.shape.join(', ')}]`),
        expected: `one input of [batch, ${shape.join(', ')}]`
      }
    })
  return input.name
}

const isDim = (declared: number | string | undefined, actual: number): boolean =>
  typeof declared === 'string' || declared === actual
