import { PeertuneError } from '../base/errors.js'
import { isMeantBy } from '../base/name-pattern.js'
import { createSchema, type ParameterSchema } from './schema.js'

/** Some tensors of a flat vector, as a vector of their own. */
export interface Selection {
  /** Of the selected tensors, one behind the other. */
  readonly schema: ParameterSchema
  /** float32[whole] -> float32[selected]; the vector itself where everything is selected. */
  take(whole: Float32Array): Float32Array
  /** float32[selected] -> float32[whole], zeros elsewhere; the vector itself where everything is selected. */
  expand(selected: Float32Array): Float32Array
  /** Writes float32[selected] into its place in float32[whole]. */
  put(selected: Float32Array, whole: Float32Array): void
  /** whole <- whole + selected, in place. */
  addInto(selected: Float32Array, whole: Float32Array): void
}

/**
 * The tensors whose names the patterns mean (base/name-pattern.ts); all of them without patterns; none that
 * `mayBe` says no to. Throws `config/nothing-shared` for a pattern that means none, and where nothing is left: everything
 * would silently stay at home.
 */
export function selectTensors(
  schema: ParameterSchema,
  patterns: readonly string[] | undefined,
  mayBe: (name: string) => boolean = () => true
): Selection {
  if (patterns === undefined && schema.entries.every(({ name }) => mayBe(name))) return everything(schema)
  for (const pattern of patterns ?? [])
    if (!schema.entries.some(({ name }) => mayBe(name) && isMeantBy(pattern, name)))
      throw new PeertuneError('config/nothing-shared', `share: ${pattern} is part of no parameter's name`, {
        facts: { pattern, parameters: schema.entries.slice(0, 8).map(({ name }) => name) },
        hint: `parameters are called ${schema.entries
          .slice(0, 3)
          .map(({ name }) => name)
          .join(', ')} and so on`
      })
  const isMeant = (name: string): boolean => patterns?.some((pattern) => isMeantBy(pattern, name)) ?? true
  const chosen = schema.entries.filter(({ name }) => mayBe(name) && isMeant(name))
  if (chosen.length === 0)
    throw new PeertuneError('config/nothing-shared', 'every parameter is private: there is nothing to exchange', {
      facts: { parameters: schema.entries.slice(0, 8).map(({ name }) => name) },
      hint: 'leave `private` out of one of the methods, or train without peers'
    })
  const selected = createSchema(chosen)
  const pairs = chosen.map((from, index) => ({ from, at: selected.entries[index]?.offset ?? 0 }))
  const take = (whole: Float32Array): Float32Array => {
    const vector = new Float32Array(selected.size)
    for (const { from, at } of pairs) vector.set(whole.subarray(from.offset, from.offset + from.size), at)
    return vector
  }
  const addInto = (vector: Float32Array, whole: Float32Array): void => {
    for (const { from, at } of pairs) for (let i = 0; i < from.size; i++) whole[from.offset + i]! += vector[at + i]!
  }
  return {
    schema: selected,
    take,
    put(vector, whole) {
      for (const { from, at } of pairs) whole.set(vector.subarray(at, at + from.size), from.offset)
    },
    addInto,
    expand(vector) {
      const whole = new Float32Array(schema.size)
      addInto(vector, whole)
      return whole
    }
  }
}

const everything = (schema: ParameterSchema): Selection => ({
  schema,
  take: (whole) => whole,
  expand: (selected) => selected,
  put: (selected, whole) => whole.set(selected),
  addInto(selected, whole) {
    for (let i = 0; i < whole.length; i++) whole[i]! += selected[i]!
  }
})
