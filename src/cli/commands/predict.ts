import { extname } from 'node:path'
import { availableParallelism } from 'node:os'
import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import type { TaskSpec } from '../../base/federation.js'
import { readCsv } from '../../data/formats/csv.js'
import { readJsonl } from '../../data/formats/jsonl.js'
import { readParquet } from '../../data/formats/parquet.js'
import { type ReadRows, textOf } from '../../data/formats/row.js'
import type { Environment } from '../../node/config/config.js'
import { labelsOf } from '../../node/model/model-folder.js'
import { openPredictor, type PredictInput, type Prediction } from '../../node/trained/predictor.js'
import { taskOfModel } from '../../node/model/task-of-model.js'
import { openTrained, type TrainedFlags } from '../../node/trained/trained-source.js'
import { wholeFlag } from '../flags.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface PredictCommandOptions extends TrainedFlags {
  readonly file?: string
  readonly column: string
  readonly pair?: string
  readonly labels?: readonly string[]
  readonly task?: string
  readonly tokenizer?: string
  readonly top: string
  readonly json?: boolean
}

/** Labels of one input that a table shows. */
const MAX_TOP = 1000

/** Says what a classifier makes of texts, rows of a file, or images. */
export async function predict(
  given: readonly string[],
  options: PredictCommandOptions,
  env: Environment,
  out: Output
): Promise<void> {
  const top = wholeFlag('--top', options.top, { min: 1, max: MAX_TOP })
  const taskOf = async (modelPath: string): Promise<TaskSpec> =>
    taskOfModel(modelPath, { kind: options.task, labels: options.labels ?? (await labelsOf(modelPath)) })
  const trained = await openTrained(options, taskOf, { env, observer: hubProgress() })
  const threads = trained.config?.threads ?? availableParallelism()
  const predictor = await openPredictor(trained, { tokenizer: options.tokenizer, threads })
  try {
    const all: Prediction[] = []
    for await (const inputs of inputsOf(given, options))
      for await (const prediction of predictor.predict(inputs)) {
        if (options.json) all.push(prediction)
        else for (const line of predictionText(prediction, top)) out.line(line)
      }
    if (options.json) out.json(all)
  } finally {
    await predictor.close()
  }
}

/** A prediction as lines for a terminal. */
export function predictionText(prediction: Prediction, top: number): string[] {
  const { input } = prediction
  if ('value' in prediction) return [`${prediction.value.toPrecision(6)}  ${input}`]
  if ('words' in prediction) {
    const width = Math.max(0, ...prediction.words.map(({ word }) => word.length))
    return [
      ...prediction.words.map(
        ({ word, label, probability }) => `${word.padEnd(width)}  ${percent(probability)}  ${label}`
      ),
      ''
    ]
  }
  const shown = prediction.probabilities.slice(0, top)
  return [input, ...shown.map(({ label, probability }) => `  ${percent(probability)}  ${label}`)]
}

const percent = (probability: number): string => `${(100 * probability).toFixed(1).padStart(5)} %`

const READERS: Readonly<Record<string, ReadRows>> = {
  '.jsonl': readJsonl,
  '.csv': readCsv(','),
  '.tsv': readCsv('\t'),
  '.parquet': readParquet
}

/** What stands on the command line, then what stands in the file, a piece at a time. */
async function* inputsOf(
  given: readonly string[],
  { file, column, pair }: PredictCommandOptions
): AsyncGenerator<readonly PredictInput[]> {
  if (given.length > 0) yield given.map((text) => ({ text }))
  if (file === undefined && given.length === 0)
    throw new PeertuneError('config/missing-field', 'what is to be predicted? Expected texts, images or --file')
  if (file === undefined) return
  const read = READERS[extname(file).toLowerCase()]
  if (read === undefined)
    throw new PeertuneError('config/wrong-value', `--file: expected ${Object.keys(READERS).join(', ')}, got ${file}`, {
      facts: { file, expected: Object.keys(READERS) }
    })
  for await (const { rows } of read(file, { columns: [column, ...(pair === undefined ? [] : [pair])] }))
    yield rows.map((row) => {
      if (isPeertuneError(row)) throw row
      return { text: textOf(row, column), ...(pair === undefined ? {} : { pair: textOf(row, pair) }) }
    })
}
