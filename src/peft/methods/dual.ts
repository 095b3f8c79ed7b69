import { isPrivate, type LoraSpec, type PeftSpec, specsOf } from '../../base/peft-spec.js'
import { peftEquivalent } from '../files/adapter-config.js'
import { nameA, nameB } from './lora.js'
import type { NamedTensor } from '../method/method.js'
import { isPrivateName, openName, type PlannedTensors } from '../method/private.js'

type PlainLora = LoraSpec<'lora' | 'rslora'>

const isLora = (spec: PeftSpec): spec is PlainLora => spec.method === 'lora' || spec.method === 'rslora'

/**
 * A shared and a private adapter as the one LoRA that does what both do, for files: on each layer [A1; A2] and
 * [s1 B1, s2 B2], with a scale of 1 where both are. Undefined where one of the two is no low-rank update.
 *
 * @param tensors as `PeftMethod.exported` gives them.
 */
export function asOneLora({ plan, tensors }: PlannedTensors): PlannedTensors | undefined {
  const specs = specsOf(plan).map(peftEquivalent)
  const [one, other] = specs
  if (specs.length !== 2 || one === undefined || other === undefined || !isLora(one) || !isLora(other)) return undefined
  if (isPrivate(one) === isPrivate(other)) return undefined
  const [shared, own] = isPrivate(one) ? [other, one] : [one, other]
  const rank = shared.rank + own.rank
  const modules = modulesOf(tensors)
  const merged = modules.flatMap((path) => stacked(path, tensors, { shared, own, rank }))
  const rest = tensors.filter(({ name }) => !/\.lora_[AB]\.weight$/.test(name))
  const head = [...new Set([...shared.head, ...own.head])]
  return {
    plan: { method: 'lora', rank, alpha: rank, targets: modules, head, seed: shared.seed },
    tensors: [...merged, ...rest]
  }
}

const modulesOf = (tensors: readonly NamedTensor[]): string[] => [
  ...new Set(
    tensors.flatMap(({ name }) => {
      const match = /^(.*)\.lora_A\.weight$/.exec(openName(name))
      return match === null ? [] : (match[1] as string)
    })
  )
]

interface Both {
  readonly shared: PlainLora
  readonly own: PlainLora
  /** Of the result; where a layer has less, its scale is higher, since PEFT divides alpha by its own rank. */
  readonly rank: number
}

interface Part {
  readonly a: NamedTensor
  readonly b: NamedTensor
  readonly rank: number
  readonly scale: number
}

function stacked(path: string, tensors: readonly NamedTensor[], { shared, own, rank }: Both): NamedTensor[] {
  const find = (name: string, spec: PlainLora): NamedTensor | undefined =>
    tensors.find((one) => openName(one.name) === name && isPrivateName(one.name) === isPrivate(spec))
  const parts = [shared, own].flatMap((spec): readonly Part[] => {
    const [a, b] = [find(nameA(path), spec), find(nameB(path), spec)]
    if (a === undefined || b === undefined) return []
    const [own = 0] = a.shape
    return [{ a, b, rank: own, scale: spec.alpha / (spec.method === 'rslora' ? Math.sqrt(own) : own) }]
  })
  const total = parts.reduce((sum, part) => sum + part.rank, 0)
  const [, inFeatures = 0] = parts[0]?.a.shape ?? []
  const [outFeatures = 0] = parts[0]?.b.shape ?? []
  const rows = new Float32Array(total * inFeatures)
  const columns = new Float32Array(outFeatures * total)
  let at = 0
  for (const { a, b, rank: width, scale } of parts) {
    rows.set(a.values, at * inFeatures)
    const factor = scale / (rank / total)
    for (let o = 0; o < outFeatures; o++)
      for (let r = 0; r < width; r++) columns[o * total + at + r] = factor * (b.values[o * width + r] as number)
    at += width
  }
  return [
    { name: nameA(path), shape: [total, inFeatures], values: rows },
    { name: nameB(path), shape: [outFeatures, total], values: columns }
  ]
}
