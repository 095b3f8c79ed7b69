import { PeertuneError } from '../../base/errors.js'
import { type PeftPlan, type PeftSpec, type SparseSpec, specsOf } from '../../base/peft-spec.js'
import { seededRng } from '../../base/rng.js'
import type { AdapterFolder } from '../../peft/files/adapter-format.js'
import type { BaseModel } from '../../peft/method/base-model.js'
import { nameA, nameB } from '../../peft/methods/lora.js'
import type { LinearView } from '../../peft/method/merge-target.js'
import type { NamedTensor } from '../../peft/method/method.js'
import { maskedModules, nameDelta, type MaskedModule } from '../../peft/methods/sparse.js'
import { singularFactors } from '../../peft/methods/svd-start.js'
import { linearModules, matchModules } from '../../peft/method/target.js'
import { floatsOf, type SafetensorsEntry } from '../../tensor/safetensors.js'

export interface FactorsOptions {
  readonly rank: number
  readonly alpha: number
}

/** The start of a second stage, and how much of the first is in it. */
export interface SecondStage {
  readonly plan: PeftPlan
  readonly tensors: readonly NamedTensor[]
  /** By module, the share of ||W' - W||^2 that the factors hold; the rest is lost. */
  readonly kept: ReadonlyMap<string, number>
}

/**
 * SLoRA (Babakniya et al. 2023, https://arxiv.org/abs/2308.06522): what a first stage of sparse training has learned,
 * as low-rank factors for the second: scale * B A is the best approximation of that rank of each weight's change.
 *
 * Made once, from one peer's snapshot after it has settled, and shipped: singular vectors that every peer computed from a
 * snapshot of its own would differ by their last bits, their signs and, where singular values are close, entirely; factors
 * so different must not be averaged. Throws `config/not-sparse`, and what the mask throws.
 */
export function secondStage(
  { plan, tensors }: Pick<AdapterFolder, 'plan' | 'tensors'>,
  base: BaseModel,
  { rank, alpha }: FactorsOptions
): SecondStage {
  const sparse = sparseSpec(plan)
  const modules = maskedModules({ ...sparse, modules: matchModules(linearModules(base.weights), sparse.targets), base })
  const made = modules.map((module) => factorise(module, deltaOf(module, tensors), { rank, scale: alpha / rank }))
  const { seed, head } = sparse
  const spec: PeftSpec = { method: 'lora', rank, alpha, targets: modules.map(({ path }) => path), head, seed }
  const heads = [...tensors].filter(([name]) => !name.endsWith('.sparse_delta'))
  return {
    plan: spec,
    tensors: [
      ...made.flatMap(({ factors }) => factors),
      ...heads.map(([name, entry]) => ({ name, shape: entry.shape, values: Float32Array.from(floatsOf(entry, name)) }))
    ],
    kept: new Map(made.map(({ path, kept }) => [path, kept]))
  }
}

function sparseSpec(plan: PeftPlan): SparseSpec {
  const [spec, ...more] = specsOf(plan)
  if (spec?.method === 'sparse' && more.length === 0) return spec
  throw new PeertuneError('config/not-sparse', 'expected what a federation with peft.method sparse has learned', {
    facts: { got: specsOf(plan).map(({ method }) => method) },
    hint: 'the first stage of SLoRA trains a sparse mask; export it with peertune export'
  })
}

function deltaOf({ path, indices }: MaskedModule, tensors: ReadonlyMap<string, SafetensorsEntry>): Float32Array {
  const name = nameDelta(path)
  const entry = tensors.get(name)
  const values = entry === undefined ? undefined : Float32Array.from(floatsOf(entry, name))
  if (values?.length === indices.length) return values
  throw new PeertuneError('config/wrong-adapter', `the folder has no ${name} for this model`, {
    facts: { name, expected: indices.length, got: values?.length ?? 'nothing' },
    hint: 'the first stage was trained on another base model, or with another density'
  })
}

interface Scaled {
  readonly rank: number
  readonly scale: number
}

function factorise(module: MaskedModule, delta: Float32Array, { rank, scale }: Scaled) {
  const { path, inFeatures, outFeatures, indices } = module
  if (rank > Math.min(inFeatures, outFeatures))
    throw new PeertuneError('config/rank-too-large', `${path} has fewer than ${rank} singular values`, {
      facts: { rank, path, inFeatures, outFeatures },
      hint: 'lower the rank'
    })
  const values = new Float32Array(outFeatures * inFeatures)
  for (const [at, index] of indices.entries()) values[index] = delta[at] as number
  const view: LinearView = { values, outStride: inFeatures, inStride: 1 }
  const { factors, energy } = singularFactors(view, { rank, scale, inFeatures, outFeatures }, seededRng('slora', path))
  const whole = delta.reduce((sum, value) => sum + value * value, 0)
  return {
    path,
    kept: whole === 0 ? 1 : Math.min(1, energy / whole),
    factors: [
      { name: nameA(path), shape: [rank, inFeatures], values: factors.a },
      { name: nameB(path), shape: [outFeatures, rank], values: factors.b }
    ]
  }
}
