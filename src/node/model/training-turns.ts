import { isPrivate, type LoraSpec, type PeftPlan, type PeftSpec, specsOf } from '../../base/peft-spec.js'
import { isPrivateName, openName } from '../../peft/method/private.js'
import { isTarget } from '../../peft/method/target.js'
import type { ParameterEntry, ParameterSchema } from '../../tensor/schema.js'
import type { Turn } from '../../train/optimiser/local-optimiser.js'

type Factor = 'A' | 'B'

/**
 * Alternating factors: RoLoRA (Chen et al. 2025, https://arxiv.org/abs/2502.01755) without a server, as ADF-LoRA (2025,
 * https://arxiv.org/abs/2511.18291) has it: for `every` rounds of `localSteps` local steps B trains, then A for as many,
 * and so on; every exchange mixes both, or what one peer froze would stay where it was while others moved on. B is first:
 * while it is zero, A has no gradient.
 *
 * The common clock is each peer's own count of local steps. It needs nobody: it is in the checkpoint, so that a restart
 * goes on where it was; a federation repeats with its seeds; and peers are kept within `isolationFactor` rounds of their
 * partners anyway. A peer of another speed, or one that came later, is then in the other half of the cycle for a while,
 * which costs the exactness of those exchanges (`mixing.crossTerm` in the status) and breaks nothing. A clock of exchanges
 * would differ between peers more, since partners are random; the time of day would be the same for all, but no run would
 * repeat, and a slow peer could miss turns.
 *
 * Undefined where nothing alternates.
 */
export function trainingTurns(
  plan: PeftPlan,
  schema: ParameterSchema,
  localSteps: number
): ((step: number) => readonly Turn[]) | undefined {
  const alternating = specsOf(plan).filter((spec) => periodOf(spec, localSteps) !== undefined)
  if (alternating.length === 0) return undefined
  const plans = schema.entries.map((entry) => ({ entry, ...clockOf(entry, alternating, localSteps) }))
  return (step) =>
    plans.flatMap(({ entry: { offset, size }, factor, period }) => {
      const { trains, updates } = turnAt(step, factor, period)
      return trains ? [{ from: offset, to: offset + size, updates }] : []
    })
}

function periodOf(spec: PeftSpec, localSteps: number): number | undefined {
  const { alternate } = spec as Partial<LoraSpec>
  return alternate === undefined ? undefined : alternate.every * localSteps
}

interface FactorClock {
  readonly factor?: Factor
  /** Local steps of one turn; absent for what trains always. */
  readonly period?: number | undefined
}

function clockOf({ name }: ParameterEntry, alternating: readonly PeftSpec[], localSteps: number): FactorClock {
  const match = /^(.*)\.lora_([AB])\.weight$/.exec(openName(name))
  const [, path = '', factor] = match ?? []
  const spec = alternating.find(
    (one) =>
      'targets' in one && isPrivate(one) === isPrivateName(name) && one.targets.some((target) => isTarget(path, target))
  )
  return spec === undefined ? {} : { factor: factor as Factor, period: periodOf(spec, localSteps) }
}

/** Whether a factor trains in step `step`, counted from 0, and in how many it has before. */
export function turnAt(
  step: number,
  factor: Factor | undefined,
  period: number | undefined
): { readonly trains: boolean; readonly updates: number } {
  if (factor === undefined || period === undefined) return { trains: true, updates: step }
  const cycles = Math.floor(step / (2 * period))
  const within = step - 2 * period * cycles
  const inFirst = Math.min(within, period)
  return {
    trains: factor === 'B' ? within < period : within >= period,
    updates: cycles * period + (factor === 'B' ? inFirst : within - inFirst)
  }
}
