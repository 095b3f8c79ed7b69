import { isPeertuneError } from '../base/errors.js'
import type { PeftMethodName, PeftSpec } from '../base/peft-spec.js'
import { nameModel } from '../onnx/canonicalise.js'
import { readModel } from '../onnx/read.js'
import { peftEquivalent } from '../peft/adapter-config.js'
import { PEFT_TYPES } from '../peft/adapter-keys.js'
import type { BaseModel } from '../peft/base-model.js'
import { adaptersOf, type Family, METHODS } from '../peft/methods.js'
import { type LinearModule, linearModules } from '../peft/target.js'
import { shapeSize } from '../tensor/schema.js'

/** One method, and what it would train of a model. */
export interface MethodRow {
  readonly method: PeftMethodName
  readonly family: Family
  /** The mean of parameters is the mean of effective weights; otherwise mixing has a cross term. */
  readonly linear: boolean
  /** As what Hugging Face PEFT loads its export; null where PEFT has no such method. */
  readonly peftType: string | null
  /** With the defaults of a manifest and these targets; absent without a model. */
  readonly parameters?: number
  readonly targets?: readonly string[]
  /** Why this model cannot have it. */
  readonly unfit?: string
}

/** Every method, with parameter counts where a model is given. Throws `onnx/*` errors for the model's file. */
export async function methodTable(modelPath?: string): Promise<MethodRow[]> {
  const base = modelPath === undefined ? undefined : await openBase(modelPath)
  return (Object.keys(METHODS) as PeftMethodName[]).map((method) => {
    const { family, linear } = METHODS[method]
    const spec = usualSpec(method, base === undefined ? [] : linearModules(base.weights))
    const row = { method, family, linear, peftType: PEFT_TYPES[peftEquivalent(spec).method] ?? null }
    return base === undefined ? row : { ...row, ...countOf(spec, base) }
  })
}

/** Shapes are all that counts here: weights are not read. */
async function openBase(modelPath: string): Promise<BaseModel> {
  const { graph, weights } = nameModel(await readModel(modelPath))
  return { graph, weights, read: ({ shape }) => new Float32Array(shapeSize(shape)) }
}

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
      return { method, targets, density: 0.01, mask: 'random', ...common }
    case 'prompt':
    case 'prefix':
      return { method, tokens: 16, ...common }
    case 'bottleneck':
      return { method, placement: 'pfeiffer', targets: [], width: 16, activation: 'gelu', ...common }
    case 'full':
      return { method, seed: 'seed' }
  }
}
