import { describe, expect, it } from 'vitest'
import { IGNORED_LABEL } from '../../../src/data/batches/batch.js'
import {
  causalCollator,
  classificationCollator,
  imageCollator,
  imageInputOf,
  tokenInputsOf
} from '../../../src/data/batches/collate.js'

const model = (inputs: Readonly<Record<string, readonly (number | string)[]>>) => ({
  inputs: Object.entries(inputs).map(([name, shape]) => ({ name, shape }))
})

const sequence = (...ids: readonly number[]) => ({ values: Int32Array.of(...ids), label: IGNORED_LABEL })

describe('collating', () => {
  it('shifts the labels of a causal language model by one', () => {
    const collate = causalCollator(['input_ids', 'attention_mask', 'position_ids'], 4)
    const batch = collate([sequence(1, 5, 6, 7), sequence(1, 8, 9, 3)], 3)
    expect([...batch.inputs.input_ids!.data]).toEqual([1, 5, 6, 7, 1, 8, 9, 3, 0, 0, 0, 0])
    expect([...batch.inputs.attention_mask!.data]).toEqual(Array(12).fill(1))
    expect([...batch.inputs.position_ids!.data]).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
    expect(batch.labels.shape).toEqual([3, 4])
    expect([...batch.labels.data]).toEqual([5, 6, 7, -100, 8, 9, 3, -100, -100, -100, -100, -100])
  })

  it('pads sequences to classify and masks the padding, but leaves no row fully masked', () => {
    const collate = classificationCollator(['input_ids', 'attention_mask', 'token_type_ids'], 4, 9)
    const batch = collate(
      [
        { values: Int32Array.of(2, 3), label: 1 },
        { values: Int32Array.of(2, 4, 5, 3), label: 0 }
      ],
      3
    )
    expect(Object.keys(batch.inputs)).toEqual(['input_ids', 'attention_mask', 'token_type_ids'])
    expect([...batch.inputs.input_ids!.data]).toEqual([2, 3, 9, 9, 2, 4, 5, 3, 9, 9, 9, 9])
    expect([...batch.inputs.attention_mask!.data]).toEqual([1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0])
    expect([...batch.labels.data]).toEqual([1, 0, -100])
  })

  it('gives a model only the inputs it has', () => {
    const collate = classificationCollator(tokenInputsOf(model({ input_ids: ['batch', 'seq'] })), 2, 0)
    expect(Object.keys(collate([], 1).inputs)).toEqual(['input_ids'])
  })

  it('lays images out row by row', () => {
    const batch = imageCollator('pixel_values', [1, 2, 2])([{ values: Float32Array.of(0.5, 0, 0.25, 1), label: 3 }], 2)
    expect(batch.inputs.pixel_values!.shape).toEqual([2, 1, 2, 2])
    expect([...batch.inputs.pixel_values!.data]).toEqual([0.5, 0, 0.25, 1, 0, 0, 0, 0])
    expect([...batch.labels.data]).toEqual([3, -100])
  })

  it('says what a model asks for that the data cannot give', () => {
    const mismatch = expect.objectContaining({ code: 'data/model-mismatch' })
    expect(() => tokenInputsOf(model({ input_ids: [1, 2], pixel_values: [1] }))).toThrow(mismatch)
    expect(() => tokenInputsOf(model({ attention_mask: [1, 2] }))).toThrow(mismatch)
    expect(() => imageInputOf(model({ pixel_values: ['batch', 3, 28, 28] }), [1, 28, 28])).toThrow(mismatch)
    expect(() => imageInputOf(model({ a: ['b', 1, 28, 28], c: [1] }), [1, 28, 28])).toThrow(mismatch)
    expect(imageInputOf(model({ image: ['batch', 1, 'h', 'w'] }), [1, 28, 28])).toBe('image')
  })
})
