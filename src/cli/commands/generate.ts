import { availableParallelism } from 'node:os'
import { openChatTemplate } from '../../data/text/chat-template.js'
import type { Environment } from '../../node/config/config.js'
import { openTextGenerator, type TextGenerator } from '../../node/trained/text-generator.js'
import { openTrained, type TrainedFlags } from '../../node/trained/trained-source.js'
import { numberFlag, wholeFlag } from '../flags.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface GenerateOptions extends TrainedFlags {
  readonly prompt: string
  /** The prompt is what a user says, and the text what the assistant answers. */
  readonly chat?: boolean
  /** What the conversation begins with. */
  readonly system?: string
  readonly tokenizer?: string
  readonly maxTokens: string
  readonly temperature: string
  readonly topK: string
  readonly topP: string
  readonly seed: string
  readonly json?: boolean
}

/** Tokens that one text may have; far beyond any model's positions. */
const MAX_TOKENS = 1_000_000

/** Writes a text that follows the prompt, with what was learned in use. */
export async function generate(options: GenerateOptions, env: Environment, out: Output): Promise<void> {
  const spec = {
    maxTokens: wholeFlag('--max-tokens', options.maxTokens, { min: 1, max: MAX_TOKENS }),
    temperature: numberFlag('--temperature', options.temperature, { min: 0, max: 100 }),
    topK: wholeFlag('--top-k', options.topK, { min: 0, max: MAX_TOKENS }),
    topP: numberFlag('--top-p', options.topP, { above: 0, max: 1 }),
    seed: options.seed,
    tokenizer: options.tokenizer,
    threads: availableParallelism()
  }
  const trained = await openTrained(options, async () => ({ kind: 'causal-lm' }), { env, observer: hubProgress() })
  const generator = await openTextGenerator(trained, { ...spec, threads: trained.config?.threads ?? spec.threads })
  try {
    const prompt = await promptIds(options, generator)
    if (!options.json && !options.chat) out.part(options.prompt)
    const result = await generator.generate(prompt, options.json ? undefined : out.part)
    if (options.json) out.json({ of: trained.of, prompt: options.prompt, ...result })
    else out.line('')
  } finally {
    await generator.close()
  }
}

/** Token ids of the prompt, or of the conversation that it is in, as transformers' tokenizers make them. */
async function promptIds(
  { prompt, chat, system }: GenerateOptions,
  { tokenizer, tokenizerPath }: TextGenerator
): Promise<Int32Array> {
  if (!chat) return tokenizer.encodeWithSpecials(prompt, Number.MAX_SAFE_INTEGER)
  const template = await openChatTemplate(tokenizerPath, tokenizer)
  const rules = system === undefined ? [] : [{ role: 'system', content: system }]
  const { text } = template([...rules, { role: 'user', content: prompt }], true)
  // The template writes the special tokens itself.
  return tokenizer.encode(text)
}
