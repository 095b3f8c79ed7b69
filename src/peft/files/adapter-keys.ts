import type { PeftSpec } from '../../base/peft-spec.js'

/** PEFT's name of the trained tensor, in prompt as in prefix tuning. */
export const PROMPT = 'prompt_embeddings'

/** What Hugging Face PEFT puts in front of module paths in its files; prompt methods wrap the model once less. */
const PREFIX = 'base_model.model.'
const PROMPT_PREFIX = 'base_model.'

/** Methods that PEFT 0.21 has, by its own name for them. */
export const PEFT_TYPES: Partial<Readonly<Record<PeftSpec['method'], string>>> = {
  lora: 'LORA',
  rslora: 'LORA',
  dora: 'LORA',
  ia3: 'IA3',
  layernorm: 'LN_TUNING',
  prompt: 'PROMPT_TUNING',
  prefix: 'PREFIX_TUNING'
}

/** Parameter name of a key in `adapter_model.safetensors`. */
export function parameterName(key: string): string {
  for (const prefix of [PREFIX, PROMPT_PREFIX]) if (key.startsWith(prefix)) return key.slice(prefix.length)
  return key
}

/** Key of a parameter in `adapter_model.safetensors`: PEFT's, or the name itself for methods that PEFT has not. */
export function parameterKey(name: string, { method }: PeftSpec): string {
  if (name === PROMPT || PEFT_TYPES[method] === undefined) return name
  return `${method === 'prompt' || method === 'prefix' ? PROMPT_PREFIX : PREFIX}${name}`
}
