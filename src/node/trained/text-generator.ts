import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import { openTokenizer, type Tokenizer } from '../../data/text/tokenizer.js'
import { decode, type StopReason } from '../../infer/decode.js'
import { createSampler, type SamplingOptions } from '../../infer/sampler.js'
import { createNextLogits } from '../../infer/text-logits.js'
import { contextOf, fileBeside, stopTokensOf } from '../model/model-folder.js'
import { openForward } from './open-forward.js'
import type { TrainedModel } from './trained-source.js'

export interface GenerateSpec extends SamplingOptions {
  readonly maxTokens: number
  readonly seed: string
  /** A tokenizer.json or a folder with one; by default that of the node's data, or the one beside the model. */
  readonly tokenizer?: string | undefined
  readonly threads: number
}

export interface GeneratedText {
  readonly promptIds: readonly number[]
  readonly ids: readonly number[]
  readonly text: string
  readonly stopped: StopReason
}

/** Writes texts, and is closed when there are no more to write. */
export interface TextGenerator {
  readonly tokenizer: Tokenizer
  readonly tokenizerPath: string
  /** `piece` is called with text as it comes. Throws `infer/prompt-too-long` and `infer/empty-prompt`. */
  generate(promptIds: Int32Array, piece?: (text: string) => void): Promise<GeneratedText>
  close(): Promise<void>
}

/**
 * Text from a causal model, one token after the other. Most exports have no key/value cache that a graph with an adapter
 * could use: the text so far runs through the forward graph for each token, padded to a power of two.
 */
export async function openTextGenerator(trained: TrainedModel, spec: GenerateSpec): Promise<TextGenerator> {
  const { adapted, modelPath, parameters, config } = trained
  const path = await tokenizerPath(trained, spec.tokenizer)
  const tokenizer = await openTokenizer(path)
  const named = await stopTokensOf(modelPath)
  const stopTokens = named.size > 0 || tokenizer.eos === undefined ? named : new Set([tokenizer.eos])
  const context = (await contextOf(modelPath)) - adapted.method.virtualTokens
  const forward = await openForward({ adapted, parameters, device: config?.device ?? 'auto', threads: spec.threads })
  const nextLogits = createNextLogits({ forward, inputs: adapted.model.graph.inputs, context })
  return {
    tokenizer,
    tokenizerPath: path,
    close: () => forward.close(),
    async generate(promptIds, piece) {
      checkPrompt(promptIds, context)
      const choose = createSampler(spec, seededRng('generate', spec.seed))
      const tokens = decode(promptIds, { nextLogits, choose, maxTokens: spec.maxTokens, stopTokens, context })
      const writer = createWriter(tokenizer, promptIds)
      let next = await tokens.next()
      for (; !next.done; next = await tokens.next()) {
        const added = writer.add(next.value)
        if (added !== '') piece?.(added)
      }
      const { ids, text, rest } = writer.end()
      if (rest !== '') piece?.(rest)
      return { promptIds: [...promptIds], ids, text, stopped: next.value }
    }
  }
}

function checkPrompt(ids: Int32Array, context: number): void {
  if (ids.length === 0)
    throw new PeertuneError('infer/empty-prompt', 'the prompt is empty, and the tokenizer adds nothing', {
      hint: 'give some text to go on from'
    })
  if (ids.length < context) return
  throw new PeertuneError(
    'infer/prompt-too-long',
    `the prompt has ${ids.length} tokens, the model ${context} positions`,
    {
      facts: { got: ids.length, expected: context },
      hint: 'give a shorter prompt, or leave its beginning out'
    }
  )
}

/** Of the flag, of the node's data, or beside the model. Throws `config/no-tokenizer`. */
export async function tokenizerPath({ modelPath, config }: TrainedModel, given: string | undefined): Promise<string> {
  const ofData: unknown = config !== undefined && 'tokenizer' in config.data ? config.data.tokenizer : undefined
  const path = given ?? (typeof ofData === 'string' ? ofData : await fileBeside(modelPath, 'tokenizer.json'))
  if (path !== undefined) return path
  throw new PeertuneError('config/no-tokenizer', `there is no tokenizer.json beside ${modelPath}`, {
    facts: { model: modelPath },
    hint: 'name one: --tokenizer FILE'
  })
}

/** What the reader sees for bytes of a character that is not whole yet. */
const BROKEN = '\ufffd'

/** Ids -> text as it grows: a token alone is no text where characters or spaces span several. */
function createWriter(tokenizer: Tokenizer, prompt: Int32Array) {
  const ids: number[] = []
  const before = tokenizer.decode(prompt)
  let text = ''
  const whole = (): string => tokenizer.decode(Int32Array.of(...prompt, ...ids)).slice(before.length)
  const advance = (now: string): string => {
    const added = now.startsWith(text) ? now.slice(text.length) : ''
    if (added !== '') text = now
    return added
  }
  return {
    add(id: number): string {
      ids.push(id)
      const now = whole()
      return now.endsWith(BROKEN) ? '' : advance(now)
    },
    end() {
      const rest = advance(whole())
      return { ids, text: whole(), rest }
    }
  }
}
