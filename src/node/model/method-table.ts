import { isPeertuneError } from '../../base/errors.js'
import type { PeftMethodName, PeftSpec } from '../../base/peft-spec.js'
import { nameModel } from '../../onnx/canonical/canonicalise.js'
import { readModel } from '../../onnx/file/read.js'
import { peftEquivalent } from '../../peft/files/adapter-config.js'
import { PEFT_TYPES } from '../../peft/files/adapter-keys.js'
import type { BaseModel, SparseMasks } from '../../peft/method/base-model.js'
import { adaptersOf, type Family, METHODS } from '../../peft/methods.js'
import { elementsOf } from '../../peft/methods/sparse.js'
import { type LinearModule, linearModules } from '../../peft/method/target.js'
import { shapeSize } from '../../tensor/schema.js'

/** One method, and what it would train of a model. */
export interface MethodRow {
  readonly method: PeftMethodName
  /** What a manifest adds to the method, for one that has a name of its own in the literature. */
  readonly variant?: string
  readonly family: Family
  /** The mean of parameters is the mean of effective weights; otherwise mixing has a cross term. */
  readonly linear: boolean
  /** What averaging does: `exact`, or what it leaves out. */
  readonly mixing: string
  /** As what Hugging Face PEFT loads its export; null where PEFT has no such method. */
  readonly peftType: string | null
  /** With the defaults of a manifest and these targets; absent without a model. */
  readonly parameters?: number
  readonly targets?: readonly string[]
  /** Why this model cannot have it. */
  readonly unfit?: string
}

/** A method as a manifest may have it, under a name of its own. */
interface Variant {
  readonly method: PeftMethodName
  readonly variant: string
  readonly fields: Readonly<Record<string, unknown>>
  /** Where it differs from the method's own. */
  readonly linear?: boolean
  readonly mixing?: string
}

const VARIANTS: readonly Variant[] = [
  { method: 'lora', variant: 'start: svd', fields: { start: 'svd' } },
  { method: 'lora', variant: 'alternate', fields: { alternate: { every: 5 } }, mixing: 'cross term of one factor' },
  { method: 'lora', variant: 'share: fedsa-lora', fields: {}, linear: true, mixing: 'exact, A only' },
  { method: 'lora', variant: 'private', fields: { private: true }, linear: true, mixing: 'never' },
  { method: 'sparse', variant: 'mask: magnitude', fields: { mask: 'magnitude' } },
  { method: 'sparse', variant: 'mask: fisher', fields: { mask: 'fisher' } }
]

/** Every method, with parameter counts where a model is given. Throws `onnx/*` errors for the model's file. */
export async function methodTable(modelPath?: string): Promise<MethodRow[]> {
  const base = modelPath === undefined ? undefined : await openBase(modelPath)
  const own = (Object.keys(METHODS) as PeftMethodName[]).map(
    (method): Variant => ({
      method,
      variant: '',
      fields: {}
    })
  )
  const all = own.flatMap((one) => [one, ...VARIANTS.filter(({ method }) => method === one.method)])
  return all.map((one) => rowOf(one, base))
}

function rowOf({ method, variant, fields, ...differing }: Variant, base: BaseModel | undefined): MethodRow {
  const { family, linear } = METHODS[method]
  const spec = { ...usualSpec(method, base === undefined ? [] : linearModules(base.weights)), ...fields } as PeftSpec
  const row = {
    method,
    ...(variant === '' ? {} : { variant }),
    family,
    linear,
    mixing: linear ? 'exact' : 'cross term',
    ...differing,
    peftType: PEFT_TYPES[peftEquivalent(spec).method] ?? null
  }
  return base === undefined ? row : { ...row, ...countOf(spec, base) }
}

/** Shapes are all that counts here: weights are not read. */
async function openBase(modelPath: string): Promise<BaseModel> {
  const { graph, weights } = nameModel(await readModel(modelPath))
  return { graph, weights, read: ({ shape }) => new Float32Array(shapeSize(shape)), masks: () => anyMasks(weights) }
}

/** As many elements as a mask of the usual density has, whichever they are. */
const anyMasks = (weights: BaseModel['weights']): SparseMasks =>
  new Map(
    linearModules(weights).map((module) => [
      module.path,
      Uint32Array.from({ length: elementsOf(module, USUAL_DENSITY) }, (_, index) => index)
    ])
  )

const USUAL_DENSITY = 0.01

function countOf(spec: PeftSpec, base: BaseModel): Pick<MethodRow, 'parameters' | 'targets' | 'unfit'> {
  const targets = 'targets' in spec && spec.targets.length > 0 ? { targets: spec.targets } : {}
  if (spec.method === 'full')
    return {
      parameters: [...base.weights.values()].reduce((sum, { initializer }) => sum + shapeSize(initializer.shape), 0)
    }
  try {
    const tensors = adaptersOf(spec, base).flatMap((adapter) => adapter.tensors)
    return { parameters: tensors.reduce((sum, { shape }) => sum + shapeSize(shape), 0), ...targets }
  } catch (error) {
    if (!isPeertuneError(error)) throw error
    return { unfit: error.message }
  }
}

/** What PEFT adapts by default in the model families it knows: queries and values. */
const USUAL_TARGETS = [['q_proj', 'v_proj'], ['query', 'value'], ['c_attn'], ['q_lin', 'v_lin'], ['query_key_value']]
const USUAL_IA3 = [
  { targets: ['k_proj', 'v_proj', 'down_proj'], feedforward: ['down_proj'] },
  { targets: ['k_proj', 'v_proj', 'fc2'], feedforward: ['fc2'] },
  { targets: ['key', 'value', 'output.dense'], feedforward: ['output.dense'] },
  { targets: ['c_attn', 'mlp.c_proj'], feedforward: ['mlp.c_proj'] }
]

/** A spec with a manifest's defaults for a model of these layers. */
export function usualSpec(method: PeftMethodName, linears: readonly LinearModule[]): PeftSpec {
  const has = (name: string): boolean => linears.some(({ path }) => `.${path}`.endsWith(`.${name}`))
  const targets = USUAL_TARGETS.find((names) => names.every(has)) ?? linears.slice(0, -1).map(({ path }) => path)
  const common = { head: [], seed: 'seed' }
  const lowRank = { rank: 8, alpha: 16, targets, ...common }
  switch (method) {
    case 'lora':
    case 'rslora':
    case 'dora':
    case 'ffa-lora':
      return { method, ...lowRank }
    case 'lora-xs':
      return { method, ...lowRank, heads: 1 }
    case 'ravan':
      return { method, ...lowRank, heads: 4 }
    case 'ia3':
      return {
        method,
        ...(USUAL_IA3.find((usual) => usual.targets.every(has)) ?? { targets, feedforward: [] }),
        ...common
      }
    case 'bitfit':
    case 'layernorm':
      return { method, targets: [], ...common }
    case 'partial':
      return { method, targets: [], lastLayers: 1, ...common }
    case 'sparse':
      return { method, targets, density: USUAL_DENSITY, mask: 'random', ...common }
    case 'prompt':
    case 'prefix':
      return { method, tokens: 16, ...common }
    case 'bottleneck':
      return { method, placement: 'pfeiffer', targets: [], width: 16, activation: 'gelu', ...common }
    case 'full':
      return { method, seed: 'seed' }
  }
}
