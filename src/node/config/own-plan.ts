import { PeertuneError } from '../../base/errors.js'
import type { FederationManifest } from '../../base/federation.js'
import { isPrivate, type PeftPlan, type PeftSpec, specsOf } from '../../base/peft-spec.js'

/** Rank slots of a method, or heads where it has several cores; undefined for methods that have neither. */
function slotsOf(spec: PeftSpec): number | undefined {
  if (isPrivate(spec) || !('rank' in spec)) return undefined
  return spec.method === 'ravan' ? spec.heads : spec.rank
}

/**
 * Slots of a federation whose peers may have fewer: those of its shared low-rank methods, which must agree. Undefined where
 * there is no such number: ranks by layer, starts from singular values (those of a smaller rank are not the first of a
 * larger), or nothing low-rank at all.
 */
export function mostSlots(peft: PeftPlan): number | undefined {
  const specs = specsOf(peft).filter((spec) => slotsOf(spec) !== undefined)
  const counts = new Set(specs.map(slotsOf))
  const nests = specs.every((spec) => !('ranks' in spec) && !('start' in spec && spec.start === 'svd'))
  return nests && counts.size === 1 ? [...counts][0] : undefined
}

/**
 * What this peer trains: the federation's plan with `slots` rank slots. Scales stay those of the federation, alpha over its
 * rank and not over ours: a slot then means the same on every peer, and products can be compared and averaged as they are.
 * Throws `config/one-rank` and `config/too-many-slots`.
 */
export function ownPlan({ peft, peerRanks }: FederationPlan, slots: number | null | undefined): PeftPlan {
  if (slots === null || slots === undefined) return peft
  const most = peerRanks === undefined ? undefined : mostSlots(peft)
  if (most === undefined)
    throw new PeertuneError('config/one-rank', 'slots: all peers of this federation have the same rank', {
      facts: { slots },
      hint: 'leave slots out of the configuration; a federation whose peers may have fewer says peerRanks: nested'
    })
  if (slots > most)
    throw new PeertuneError('config/too-many-slots', `slots: expected at most ${most}, got ${slots}`, {
      facts: { expected: most, got: slots }
    })
  const specs = specsOf(peft).map((spec) => withSlots(spec, slots))
  return 'method' in peft ? (specs[0] as PeftSpec) : specs
}

type FederationPlan = Pick<FederationManifest, 'peft' | 'peerRanks'>

function withSlots(spec: PeftSpec, slots: number): PeftSpec {
  if (isPrivate(spec) || !('rank' in spec)) return spec
  if (spec.method === 'ravan') return { ...spec, heads: slots }
  const share = slots / spec.rank
  return { ...spec, rank: slots, alpha: spec.alpha * (spec.method === 'rslora' ? Math.sqrt(share) : share) }
}
