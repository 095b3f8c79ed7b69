import { PeertuneError } from '../../base/errors.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from './batch.js'

/** What a data source must know of a model: its graph inputs. */
export interface ModelInputs {
  readonly inputs: readonly {
    readonly name: string
    readonly shape: readonly (number | string)[]
    /** `float32` or `int64`, where it is known. */
    readonly type?: string
  }[]
}

/** One row of a batch before it is one. */
export interface Example {
  /** An image, float32[channel * height * width] row major; or the token ids of a sequence, special tokens included. */
  readonly values: Float32Array | Int32Array
  /**
   * Index among the task's labels; IGNORED_LABEL where the values are their own labels (a causal language model); the
   * number to be predicted in a regression.
   */
  readonly label: number
  /** One label a token, where there are such. */
  readonly labels?: Int32Array
  /** Which of two texts each token belongs to (default 0). */
  readonly segments?: Int32Array
}

/** Inputs that a language model may ask for; everything in them follows from the token ids. */
const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'] as const
export type TokenInput = (typeof TOKEN_INPUTS)[number]

/** pixels -> `<inputName>` float32[rows, ...shape], labels [rows]. Missing rows are black and ignored. */
export function imageCollator(inputName: string, shape: readonly [number, number, number]) {
  const size = shape[0] * shape[1] * shape[2]
  return (examples: readonly Example[], rows: number): Batch => {
    const data = new Float32Array(rows * size)
    for (const [row, { values }] of examples.entries()) data.set(values, row * size)
    return {
      inputs: { [inputName]: { type: 'float32', shape: [rows, ...shape], data } },
      labels: exampleLabels(examples, rows, 'example')
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
    const segments = new Int32Array(rows * length)
    const shape = [rows, length] as const
    return { inputs: tokenInputs(inputs, { ids, mask, segments, shape }), labels: { shape, data: labels } }
  }
}

/** What the labels of padded sequences are: one an example, a number an example, one a token, or the next tokens. */
export type LabelLayout = 'example' | 'number' | 'token' | 'next'

/**
 * Rows of at most `length` tokens padded with `padId`, mask 0 over the padding. Labels are [rows] or [rows, length], as
 * `layout` has it; `next` moves those of the tokens one place to the left. A missing row keeps one unmasked position: a
 * softmax over nothing would be NaN.
 */
export function paddedCollator(inputs: readonly TokenInput[], length: number, padId: number, layout: LabelLayout) {
  return (examples: readonly Example[], rows: number): Batch => {
    const ids = new Int32Array(rows * length).fill(padId)
    const mask = new Int32Array(rows * length)
    const segments = new Int32Array(rows * length)
    for (let row = 0; row < rows; row++) mask[row * length] = 1
    for (const [row, example] of examples.entries()) {
      ids.set(example.values, row * length)
      mask.fill(1, row * length, row * length + example.values.length)
      if (example.segments !== undefined) segments.set(example.segments, row * length)
    }
    return {
      inputs: tokenInputs(inputs, { ids, mask, segments, shape: [rows, length] }),
      labels:
        layout === 'example' || layout === 'number'
          ? exampleLabels(examples, rows, layout)
          : tokenLabels(examples, rows, length, layout)
    }
  }
}

export const classificationCollator = (inputs: readonly TokenInput[], length: number, padId: number) =>
  paddedCollator(inputs, length, padId, 'example')

/** Labels [rows], those of missing rows ignored. */
export function exampleLabels(
  examples: readonly Example[],
  rows: number,
  layout: 'example' | 'number'
): Batch['labels'] {
  const data = layout === 'number' ? new Float32Array(rows).fill(Number.NaN) : new Int32Array(rows).fill(IGNORED_LABEL)
  for (const [row, { label }] of examples.entries()) data[row] = label
  return { shape: [rows], data }
}

function tokenLabels(
  examples: readonly Example[],
  rows: number,
  length: number,
  layout: 'token' | 'next'
): Batch['labels'] {
  const data = new Int32Array(rows * length).fill(IGNORED_LABEL)
  for (const [row, { labels = new Int32Array(0) }] of examples.entries())
    data.set(layout === 'next' ? labels.subarray(1) : labels, row * length)
  return { shape: [rows, length], data }
}

interface TokenBatch {
  readonly ids: Int32Array
  readonly mask: Int32Array
  readonly segments: Int32Array
  readonly shape: readonly [number, number]
}

function tokenInputs(
  wanted: readonly TokenInput[],
  { ids, mask, segments, shape }: TokenBatch
): Record<string, BatchTensor> {
  const make: Record<TokenInput, () => Int32Array> = {
    input_ids: () => ids,
    attention_mask: () => mask,
    token_type_ids: () => segments,
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
