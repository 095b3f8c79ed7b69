import { PeertuneError } from '../../base/errors.js'
import type { Ia3Spec, LoraSpec, PeftSpec } from '../../base/peft-spec.js'
import type { Shape } from '../../tensor/schema.js'
import { parameterName, PEFT_TYPES } from './adapter-keys.js'
import { PROMPT } from './adapter-keys.js'

export type AdapterConfig = Readonly<Record<string, unknown>>

/** Name and shape of every tensor of an adapter, as a Map or any other iterable of pairs. */
export type TensorShapes = Iterable<readonly [string, { readonly shape: Shape }]>

/** PEFT's `task_type`. */
export type TaskType = 'CAUSAL_LM' | 'SEQ_CLS' | 'TOKEN_CLS'

export interface ConfigFacts {
  readonly taskType?: TaskType | undefined
  /** `org/name` of the Hugging Face hub, and its commit. */
  readonly baseModel?: string | undefined
  readonly revision?: string | undefined
  /** Of keys and values; what prefix tuning cannot tell from its tensors. */
  readonly attentionHeads?: number | undefined
}

/** The method as which PEFT loads what `exported` writes, where PEFT has it under another name or form. */
export function peftEquivalent(spec: PeftSpec): PeftSpec {
  if (spec.method === 'lora-xs' || spec.method === 'ravan') {
    const { heads, rank, alpha, ...common } = spec
    return { ...common, method: 'lora', rank: rank * heads, alpha: alpha * heads }
  }
  if (spec.method === 'ffa-lora') return peftEquivalent({ ...spec, method: 'lora' })
  if ((spec.method !== 'lora' && spec.method !== 'rslora') || spec.start !== 'svd') return spec
  // Twice the rank, with the scale that one had: alpha / rank, or alpha / sqrt(rank).
  const { start: _start, ...plain } = spec
  const growth = spec.method === 'lora' ? 2 : Math.SQRT2
  return { ...plain, rank: 2 * spec.rank, alpha: growth * spec.alpha }
}

const SEED = 'unused: the start comes from the adapter'

const LORA_A = '.lora_A.weight'
const IA3_L = '.ia3_l'
const NORM = '.ln_tuning_layers.'

/** Module paths of the names that end in `suffix`. */
const owners = (names: readonly string[], suffix: string): string[] =>
  names.flatMap((name) => (name.endsWith(suffix) ? name.slice(0, -suffix.length) : []))

/**
 * PEFT's `adapter_config.json` for a method, undefined for one that PEFT does not have. Target modules are whole paths,
 * so that none is mistaken.
 */
export function configOf(spec: PeftSpec, tensors: TensorShapes, facts: ConfigFacts = {}): AdapterConfig | undefined {
  const type = PEFT_TYPES[spec.method]
  if (type === undefined || spec.method === 'full') return undefined
  const { taskType, baseModel, revision } = facts
  return {
    peft_type: type,
    ...(taskType === undefined ? {} : { task_type: taskType }),
    base_model_name_or_path: baseModel ?? null,
    ...(revision === undefined ? {} : { revision }),
    ...methodFields(spec, [...tensors], facts),
    ...(spec.head.length === 0 ? {} : { modules_to_save: spec.head }),
    inference_mode: true
  }
}

type Pairs = readonly (readonly [string, { readonly shape: Shape }])[]

function methodFields(spec: PeftSpec, tensors: Pairs, facts: ConfigFacts): AdapterConfig {
  const names = tensors.map(([name]) => name)
  switch (spec.method) {
    case 'lora':
    case 'rslora':
    case 'dora':
      return loraFields(spec, tensors)
    case 'ia3': {
      const inputs = tensors.flatMap(([name, { shape }]) => (name.endsWith(IA3_L) && shape[0] === 1 ? name : []))
      return { target_modules: owners(names, IA3_L), feedforward_modules: owners(inputs, IA3_L) }
    }
    case 'layernorm':
      return { target_modules: owners(names, `${NORM}weight`) }
    case 'prompt':
    case 'prefix':
      return promptFields(spec.method, tensors, facts)
    default:
      return {}
  }
}

function loraFields(spec: LoraSpec, tensors: Pairs): AdapterConfig {
  const ranks = tensors.flatMap(([name, { shape }]) =>
    name.endsWith(LORA_A) ? [[name.slice(0, -LORA_A.length), shape[0] as number] as const] : []
  )
  const others = ranks.filter(([, rank]) => rank !== spec.rank)
  return {
    r: spec.rank,
    lora_alpha: spec.alpha,
    lora_dropout: 0,
    bias: 'none',
    target_modules: ranks.map(([path]) => path),
    ...(others.length === 0 ? {} : { rank_pattern: Object.fromEntries(others) }),
    ...(spec.method === 'rslora' ? { use_rslora: true } : {}),
    ...(spec.method === 'dora' ? { use_dora: true } : {})
  }
}

function promptFields(method: 'prompt' | 'prefix', tensors: Pairs, { attentionHeads }: ConfigFacts): AdapterConfig {
  const [tokens = 0, columns = 0] = tensors.find(([name]) => name === PROMPT)?.[1].shape ?? []
  const heads = attentionHeads === undefined ? {} : { num_attention_heads: attentionHeads }
  const common = { num_virtual_tokens: tokens, num_transformer_submodules: 1, ...heads }
  return method === 'prompt' ? { ...common, token_dim: columns } : { ...common, prefix_projection: false }
}

/**
 * The spec that an `adapter_config.json` and the tensors beside it stand for. Modules are taken from the tensors: in the
 * config a suffix may mean more or fewer. Throws `config/unsupported-adapter` for methods that are not trained here.
 */
export function specFromConfig(config: AdapterConfig, tensors: TensorShapes): PeftSpec {
  const pairs = Array.from(tensors, ([key, { shape }]) => [parameterName(key), { shape }] as const)
  const names = pairs.map(([name]) => name)
  const common = { head: headsIn(names), seed: SEED }
  switch (config.peft_type) {
    case 'LORA':
      return loraSpec(config, pairs, common)
    case 'IA3':
      return ia3Spec(pairs, common)
    case 'LN_TUNING':
      return { method: 'layernorm', targets: owners(names, `${NORM}weight`), ...common }
    case 'PROMPT_TUNING':
      return { method: 'prompt', tokens: Number(config.num_virtual_tokens), ...common }
    case 'PREFIX_TUNING':
      if (config.prefix_projection === true) throw unsupported('PREFIX_TUNING with prefix_projection')
      return { method: 'prefix', tokens: Number(config.num_virtual_tokens), ...common }
    default:
      throw unsupported(String(config.peft_type))
  }
}

const unsupported = (kind: string): PeertuneError =>
  new PeertuneError('config/unsupported-adapter', `adapters of kind ${kind} are not supported`, {
    facts: { kind },
    hint: 'LORA (with use_rslora or use_dora), ADALORA, IA3, LN_TUNING, PROMPT_TUNING, P_TUNING and PREFIX_TUNING are'
  })

type Common = Pick<LoraSpec, 'head' | 'seed'>

/** Every variant that changes what the tensors mean; PEFT writes them all, mostly as false or null. */
const LORA_VARIANTS = [
  'lora_bias',
  'use_qalora',
  'use_bdlora',
  'alora_invocation_tokens',
  'arrow_config',
  'corda_config',
  'kasa_config',
  'lora_ga_config',
  'monteclora_config',
  'velora_config',
  'layer_replication',
  'target_parameters',
  'trainable_token_indices'
]

function loraSpec(config: AdapterConfig, tensors: Pairs, common: Common): PeftSpec {
  const variant = LORA_VARIANTS.find(
    (flag) => config[flag] !== undefined && config[flag] !== null && config[flag] !== false
  )
  if (variant !== undefined) throw unsupported(variant)
  if (config.bias !== undefined && config.bias !== 'none') throw unsupported(`LORA with bias ${String(config.bias)}`)
  if (Object.keys((config.alpha_pattern as object | null) ?? {}).length > 0)
    throw unsupported('LORA with alpha_pattern')
  const embedded = tensors.find(([name]) => name.includes('.lora_embedding_'))
  if (embedded !== undefined) throw unsupported(`LORA on an embedding (${embedded[0]})`)
  const modules = tensors.flatMap(([name, { shape }]) =>
    name.endsWith(LORA_A) ? [[name.slice(0, -LORA_A.length), shape[0] as number] as const] : []
  )
  const rank = Number(config.r)
  const others = modules.filter(([, own]) => own !== rank)
  const fields = {
    rank,
    alpha: Number(config.lora_alpha),
    targets: modules.map(([path]) => path),
    ...(others.length === 0 ? {} : { ranks: Object.fromEntries(others) }),
    ...common
  }
  if (config.use_dora === true && config.use_rslora === true) throw unsupported('use_dora with use_rslora')
  if (config.use_dora === true) return { method: 'dora', ...fields }
  return { method: config.use_rslora === true ? 'rslora' : 'lora', ...fields }
}

function ia3Spec(tensors: Pairs, common: Common): Ia3Spec {
  const vectors = tensors.filter(([name]) => name.endsWith(IA3_L))
  const paths = (some: Pairs) =>
    owners(
      some.map(([name]) => name),
      IA3_L
    )
  const inputs = vectors.filter(([, { shape }]) => shape[0] === 1)
  return { method: 'ia3', targets: paths(vectors), feedforward: paths(inputs), ...common }
}

/** Modules of the tensors that belong to no method; PEFT's config lists some that the model may not have. */
function headsIn(names: readonly string[]): string[] {
  const own = names.filter(
    (name) => !name.includes('.lora_') && !name.endsWith(IA3_L) && !name.includes(NORM) && name !== PROMPT
  )
  return [...new Set(own.map((name) => name.slice(0, name.lastIndexOf('.'))))]
}
