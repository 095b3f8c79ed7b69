import type { ParameterEntry, ParameterSchema } from './schema.js'

/** The two factors of one low-rank update B A. */
export interface FactorPair {
  /** float32[rank, inFeatures]; a slot is a row. */
  readonly a: ParameterEntry
  /** float32[outFeatures, rank]; a slot is a column. */
  readonly b: ParameterEntry
  readonly rank: number
  readonly inFeatures: number
  readonly outFeatures: number
}

const SUFFIX_A = '.lora_A.weight'
const SUFFIX_B = '.lora_B.weight'

/** The factor pairs of a schema, by the names PEFT gives them, and every other tensor. */
export function factorsOf({ entries }: ParameterSchema): {
  readonly pairs: readonly FactorPair[]
  readonly others: readonly ParameterEntry[]
} {
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  const pairs = entries.flatMap((a): readonly FactorPair[] => {
    if (!a.name.endsWith(SUFFIX_A)) return []
    const b = byName.get(a.name.slice(0, -SUFFIX_A.length) + SUFFIX_B)
    const [rank = 0, inFeatures = 0] = a.shape
    const [outFeatures = 0, columns = 0] = b?.shape ?? []
    return b === undefined || columns !== rank ? [] : [{ a, b, rank, inFeatures, outFeatures }]
  })
  const paired = new Set(pairs.flatMap(({ a, b }) => [a, b]))
  return { pairs, others: entries.filter((entry) => !paired.has(entry)) }
}
