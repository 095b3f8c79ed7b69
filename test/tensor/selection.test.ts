import { describe, expect, it } from 'vitest'
import { isMeantBy } from '../../src/base/name-pattern.js'
import { createSchema } from '../../src/tensor/schema.js'
import { selectTensors } from '../../src/tensor/selection.js'

describe('a name pattern', () => {
  it.each([
    ['lora_A', 'layers.0.up.lora_A.weight', true],
    ['lora_A', 'layers.0.up.lora_AB.weight', false],
    ['layers.0', 'layers.0.up.lora_A.weight', true],
    ['layers.0', 'layers.10.up.lora_A.weight', false],
    ['layers.*.up', 'model.layers.10.up.lora_A.weight', true],
    ['lora_*', 'layers.0.up.lora_A.weight', true],
    ['layers.0.up.lora_A.weight', 'layers.0.up.lora_A.weight', true],
    ['layers.0.up.lora_A.weight.more', 'layers.0.up.lora_A.weight', false],
    ['a+', 'aa.weight', false]
  ])('%s, %s: %s', (pattern, name, meant) => {
    expect(isMeantBy(pattern, name)).toBe(meant)
  })
})

describe('a selection', () => {
  const schema = createSchema([
    { name: 'up.lora_A.weight', shape: [2] },
    { name: 'up.lora_B.weight', shape: [1] },
    { name: 'down.lora_A.weight', shape: [3] }
  ])
  const whole = Float32Array.of(0.5, 3, 7, -1, 2, 4)

  it('takes its tensors, and puts increments back where they belong', () => {
    const selection = selectTensors(schema, ['lora_A'])
    expect(selection.schema.entries.map(({ name, offset }) => [name, offset])).toEqual([
      ['up.lora_A.weight', 0],
      ['down.lora_A.weight', 2]
    ])
    expect(selection.take(whole)).toEqual(Float32Array.of(0.5, 3, -1, 2, 4))
    const increment = Float32Array.of(10, 20, 30, 40, 50)
    expect(selection.expand(increment)).toEqual(Float32Array.of(10, 20, 0, 30, 40, 50))
    const changed = whole.slice()
    selection.addInto(increment, changed)
    expect(changed).toEqual(Float32Array.of(10.5, 23, 7, 29, 42, 54))
  })

  it('of everything copies nothing', () => {
    const selection = selectTensors(schema, undefined)
    expect(selection.schema).toBe(schema)
    expect(selection.take(whole)).toBe(whole)
    expect(selection.expand(whole)).toBe(whole)
  })

  it('refuses a pattern that means nothing', () => {
    expect(() => selectTensors(schema, ['lora_A', 'lora_C'])).toThrowError(
      expect.objectContaining({ code: 'config/nothing-shared', facts: expect.objectContaining({ pattern: 'lora_C' }) })
    )
  })
})
