import { PeertuneError } from '../../base/errors.js'
import { floatsOf, type SafetensorsEntry } from '../../tensor/safetensors.js'
import type { AdapterConfig } from './adapter-config.js'

/** What PEFT saves: a configuration and the tensors it speaks of. */
export interface AdapterFiles {
  readonly config: AdapterConfig
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>
}

/** Starts that change the base weights: their factors mean something else beside the weights as they were. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga|milora)/

/**
 * Adapters of PEFT that are others in other words, in those words: LoRA with an alpha of its own for some modules
 * (`alpha_pattern`), AdaLoRA (Zhang et al. 2023, https://arxiv.org/abs/2303.10512) after its ranks are settled, and
 * P-tuning, whose encoder is folded into the prompt when it is saved. Others are given back as they are. Throws
 * `config/unsupported-adapter` for factors that go with changed base weights.
 */
export function plainForm({ config, tensors }: AdapterFiles): AdapterFiles {
  switch (config.peft_type) {
    case 'LORA':
      return plainLora({ config, tensors })
    case 'ADALORA':
      return asLora({ config, tensors })
    case 'P_TUNING':
      return { config: { ...config, peft_type: 'PROMPT_TUNING' }, tensors }
    default:
      return { config, tensors }
  }
}

const LORA_B = '.lora_B.weight'

function plainLora({ config, tensors }: AdapterFiles): AdapterFiles {
  const { alpha_pattern: given, init_lora_weights: start } = config
  if (typeof start === 'string' && CHANGES_BASE.test(start))
    throw new PeertuneError('config/unsupported-adapter', `this adapter goes with base weights that ${start} changed`, {
      facts: { kind: start },
      hint: 'save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA'
    })
  const alphas = Object.entries((given as Readonly<Record<string, number>> | null | undefined) ?? {})
  if (alphas.length === 0) return { config, tensors }
  const alpha = Number(config.lora_alpha)
  const scaled = mapEntries(tensors, (key, entry) => {
    if (!key.endsWith(LORA_B)) return [key, entry]
    const module = key.slice(0, -LORA_B.length)
    const [, own = alpha] = alphas.find(([pattern]) => matches(pattern, module)) ?? []
    return [key, floats(entry, (value) => value * (own / alpha))]
  })
  return { config: { ...config, alpha_pattern: {} }, tensors: scaled }
}

/** As `get_pattern_key` of PEFT: a regular expression for the end of a module's path. */
function matches(pattern: string, module: string): boolean {
  try {
    return new RegExp(`^(.*\\.)?(${pattern})$`).test(module)
  } catch {
    return false
  }
}

/** B (E A) alpha / rank, E one value a row of A: a LoRA whose A is E A. PEFT divides by the rank before pruning. */
function asLora({ config, tensors }: AdapterFiles): AdapterFiles {
  const alpha = Number(config.lora_alpha)
  const before = Number(config.init_r) + 1e-5
  const plain = new Map<string, SafetensorsEntry>()
  for (const [key, entry] of tensors) {
    const [, module, part] = /^(.*)\.lora_([ABE])$/.exec(key) ?? []
    if (module === undefined) plain.set(key, entry)
    if (part === 'A') {
      const values = tensors.get(`${module}.lora_E`)
      const gains = values === undefined ? undefined : floatsOf(values, key)
      const columns = entry.shape[1] ?? 1
      plain.set(
        `${module}.lora_A.weight`,
        floats(entry, (value, index) => value * (gains?.[Math.floor(index / columns)] ?? 0))
      )
    }
    if (part === 'B')
      plain.set(
        `${module}${LORA_B}`,
        floats(entry, (value) => (value * (entry.shape[1] ?? 1)) / before)
      )
  }
  const { rank_pattern: _pruned, ...others } = config
  return { config: { ...others, peft_type: 'LORA', r: config.init_r, lora_alpha: alpha, bias: 'none' }, tensors: plain }
}

const mapEntries = (
  tensors: ReadonlyMap<string, SafetensorsEntry>,
  change: (key: string, entry: SafetensorsEntry) => readonly [string, SafetensorsEntry]
): ReadonlyMap<string, SafetensorsEntry> => new Map(Array.from(tensors, ([key, entry]) => change(key, entry)))

function floats(entry: SafetensorsEntry, change: (value: number, index: number) => number): SafetensorsEntry {
  const values = Float32Array.from(floatsOf(entry) as ArrayLike<number>, change)
  return { type: 'F32', shape: entry.shape, bytes: new Uint8Array(values.buffer) }
}
