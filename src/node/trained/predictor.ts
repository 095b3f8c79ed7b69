import { PeertuneError } from '../../base/errors.js'
import { type Batch, IGNORED_LABEL } from '../../data/batches/batch.js'
import { type Example, imageCollator, paddedCollator, tokenInputsOf } from '../../data/batches/collate.js'
import { openImageFiles } from '../../data/images/images.js'
import type { DataSpec } from '../../data/spec.js'
import { alignTags } from '../../data/text/task.js'
import { openTokenizer, type Tokenizer } from '../../data/text/tokenizer.js'
import { type ClassProbability, classProbabilities } from '../../infer/class-probabilities.js'
import { bucketOf } from '../../infer/text-logits.js'
import { configBeside, contextOf } from '../model/model-folder.js'
import { openForward } from './open-forward.js'
import { tokenizerPath } from './text-generator.js'
import type { TrainedModel } from './trained-source.js'

/** What a model says of one input. */
export type Prediction =
  | { readonly input: string; readonly label: string; readonly probabilities: readonly ClassProbability[] }
  | { readonly input: string; readonly value: number }
  | { readonly input: string; readonly words: readonly (ClassProbability & { readonly word: string })[] }

/** A text, and one that belongs to it; or the path of an image. */
export interface PredictInput {
  readonly text: string
  readonly pair?: string
}

export interface Predictor {
  /** In the order of the inputs. Throws `data/*` for what cannot be read. */
  predict(inputs: readonly PredictInput[]): AsyncGenerator<Prediction>
  close(): Promise<void>
}

export interface PredictOptions {
  readonly tokenizer?: string | undefined
  readonly threads: number
}

/** Inputs that go through the model at once. */
const BATCH = 16

interface Reader {
  encode(input: PredictInput): Promise<Example>
  collate(examples: readonly Example[]): Batch
  /** One example's row of the logits. */
  read(input: PredictInput, logits: Float32Array, example: Example): Prediction
}

/** A classifier (or regression) ready to answer. Throws `config/wrong-task` for a model that writes text instead. */
export async function openPredictor(trained: TrainedModel, options: PredictOptions): Promise<Predictor> {
  const { adapted, parameters, config } = trained
  const reader = await readerOf(trained, options)
  const forward = await openForward({ adapted, parameters, device: config?.device ?? 'auto', threads: options.threads })
  return {
    close: () => forward.close(),
    async *predict(inputs) {
      for (let first = 0; first < inputs.length; first += BATCH) {
        const some = inputs.slice(first, first + BATCH)
        const examples: Example[] = []
        for (const input of some) examples.push(await reader.encode(input))
        const { data } = await forward.run(reader.collate(examples).inputs)
        const size = data.length / some.length
        for (const [row, input] of some.entries())
          yield reader.read(input, data.slice(row * size, (row + 1) * size), examples[row] as Example)
      }
    }
  }
}

async function readerOf(trained: TrainedModel, options: PredictOptions): Promise<Reader> {
  const { task } = trained
  switch (task.kind) {
    case 'image-classification':
      return imageReader(trained, task.labels)
    case 'sequence-classification':
      return textReader(trained, options, (input, logits) => classified(input.text, logits, task.labels))
    case 'regression':
      return textReader(trained, options, ({ text }, logits) => ({ input: text, value: logits[0] as number }))
    case 'token-classification':
      return wordReader(trained, options, task.labels)
    default:
      throw new PeertuneError('config/wrong-task', `a model for ${task.kind} writes text`, {
        facts: { task: task.kind },
        hint: 'use peertune generate'
      })
  }
}

function classified(input: string, logits: Float32Array, labels: readonly string[]): Prediction {
  const probabilities = classProbabilities(logits, labels)
  return { input, label: probabilities[0]?.label ?? '', probabilities }
}

interface TextParts {
  readonly tokenizer: Tokenizer
  readonly context: number
  collate(examples: readonly Example[]): Batch
}

async function textParts(trained: TrainedModel, options: PredictOptions): Promise<TextParts> {
  const { adapted, modelPath } = trained
  const { inputs } = adapted.model.graph
  const names = tokenInputsOf({ inputs })
  const tokenizer = await openTokenizer(await tokenizerPath(trained, options.tokenizer))
  const fixed = inputs.find(({ name }) => name === 'input_ids')?.shape[1]
  const context = typeof fixed === 'number' ? fixed : (await contextOf(modelPath)) - adapted.method.virtualTokens
  return {
    tokenizer,
    context,
    collate(examples) {
      const longest = Math.max(1, ...examples.map(({ values }) => values.length))
      const length = typeof fixed === 'number' ? fixed : bucketOf(longest, context)
      return paddedCollator(names, length, tokenizer.pad, 'example')(examples, examples.length)
    }
  }
}

async function textReader(trained: TrainedModel, options: PredictOptions, read: Reader['read']): Promise<Reader> {
  const { tokenizer, context, collate } = await textParts(trained, options)
  return {
    async encode({ text, pair }) {
      if (pair === undefined) return { values: tokenizer.encodeWithSpecials(text, context), label: IGNORED_LABEL }
      const { ids, segments } = tokenizer.encodePair(text, pair, context)
      return { values: ids, segments, label: IGNORED_LABEL }
    },
    collate,
    read
  }
}

/** Words are what white space parts; a word's label is that of its first token, as in training. */
async function wordReader(trained: TrainedModel, options: PredictOptions, labels: readonly string[]): Promise<Reader> {
  const { tokenizer, context, collate } = await textParts(trained, options)
  const wordsOf = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')
  return {
    async encode({ text }) {
      const words = wordsOf(text)
      const places = Int32Array.from(words, (_, index) => index)
      return { ...alignTags(words, places, tokenizer, context), label: IGNORED_LABEL }
    },
    collate,
    read({ text }, logits, { labels: places = new Int32Array(0) }) {
      const words = wordsOf(text)
      const length = logits.length / labels.length
      const found = Array.from(places).flatMap((word, token) => {
        if (word === IGNORED_LABEL || token >= length) return []
        const row = logits.slice(token * labels.length, (token + 1) * labels.length)
        const best = classProbabilities(row, labels)[0] as ClassProbability
        return [{ word: words[word] as string, ...best }]
      })
      return { input: text, words: found }
    }
  }
}

async function imageReader(trained: TrainedModel, labels: readonly string[]): Promise<Reader> {
  const { adapted, modelPath, config } = trained
  const spec = imageSpecOf(config?.data) ?? (await preprocessing(modelPath))
  const { inputName, shape, read } = await openImageFiles(spec, { inputs: adapted.model.graph.inputs })
  return {
    encode: async ({ text: path }) => ({ values: await read(path), label: IGNORED_LABEL }),
    collate: (examples) => imageCollator(inputName, shape)(examples, examples.length),
    read: ({ text: path }, logits) => classified(path, logits, labels)
  }
}

/** How a node's own images are prepared. */
function imageSpecOf(data: DataSpec | undefined) {
  if (data === undefined) return undefined
  if (data.kind === 'union') return data.parts.find((part) => part.kind === 'images') ?? {}
  return data.kind === 'images' ? data : {}
}

/** What Hugging Face's image processors say of themselves (preprocessor_config.json). */
async function preprocessing(modelPath: string) {
  const { size, image_mean: mean, image_std: std } = await configBeside(modelPath, 'preprocessor_config.json')
  const { height, width } = (size ?? {}) as { readonly height?: number; readonly width?: number }
  return {
    ...(height !== undefined && width !== undefined && { size: [height, width] as const }),
    ...(Array.isArray(mean) && { mean: mean as number[] }),
    ...(Array.isArray(std) && { std: std as number[] })
  }
}
