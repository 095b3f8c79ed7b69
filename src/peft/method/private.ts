import { isPrivate, type PeftPlan, type PeftSpec, specsOf } from '../../base/peft-spec.js'
import type { NamedTensor } from './method.js'

/**
 * Dual adapters (FedDPA, Yang et al. 2024, https://arxiv.org/abs/2403.19211): one that all peers share and one that each
 * keeps, on the same layers, both trained on the peer's data. What is private has a segment of its own in its name.
 */
const SEGMENT = '.private'

/** Where the tensors of a private adapter on this module are. */
export const privatePath = (path: string): string => `${path}${SEGMENT}`

/** Parameters of a private adapter, by the names that `privatePath` gives them. */
export const isPrivateName = (name: string): boolean => /\.private\.(lora|start)_[AB]\.weight$/.test(name)

/** What of a trained plan a file is to hold. */
export type AdapterPart = 'all' | 'shared' | 'private'

export interface PlannedTensors {
  readonly plan: PeftPlan
  readonly tensors: readonly NamedTensor[]
}

/**
 * The shared adapter alone, or the private one as an adapter by itself: the same layers, without the segment that told
 * it from the other.
 */
export function partOf({ plan, tensors }: PlannedTensors, part: AdapterPart): PlannedTensors {
  const specs = specsOf(plan)
  if (part === 'all' || !specs.some(isPrivate)) return { plan, tensors }
  const ours = (spec: PeftSpec): boolean => isPrivate(spec) === (part === 'private')
  const kept = specs.filter(ours).map(openly)
  const wanted = tensors.filter(({ name }) => isPrivateName(name) === (part === 'private'))
  return {
    plan: kept.length === 1 ? (kept[0] as PeftSpec) : kept,
    tensors: wanted.map((tensor) => ({ ...tensor, name: openName(tensor.name) }))
  }
}

export const openName = (name: string): string => (isPrivateName(name) ? name.replace(`${SEGMENT}.`, '.') : name)

function openly(spec: PeftSpec): PeftSpec {
  if (!('private' in spec)) return spec
  const { private: _private, ...open } = spec
  return open
}
