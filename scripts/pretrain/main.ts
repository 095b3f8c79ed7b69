import '../../src/base/polyfill.js'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PeertuneError } from '../../src/base/errors.js'
import type { TaskSpec } from '../../src/base/federation.js'
import { DIGITS } from '../../src/data/images/glyph-shapes.js'
import { openDataset } from '../../src/data/source.js'
import { openLocalTrainer } from '../../src/node/model/open-trainer.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { type ParameterSchema, viewOf } from '../../src/tensor/schema.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'
import type { Trainer } from '../../src/train/trainer.js'
import { CHIMERA_LABELS, chimeraStream, labelOfDigit } from './chimeras.js'
import { initialWeights } from './initial-weights.js'
import { buildVit, GLYPH_VIT, huggingFaceConfig, type VitWeights } from './vit.js'

const HELP = `npm run pretrain -- [--steps N] [--seed TEXT] [--threads N] [--out DIR]

Trains the base model that ships with peertune from nothing, with peertune's own engine, and writes model.onnx and
config.json. The same seed on the same processor gives the same bytes.`

const BATCH_SIZE = 64
const LEARNING_RATE = 2e-3
const WEIGHT_DECAY = 0.01
const WARMUP_STEPS = 200
const REPORT_EVERY = 500
const TEST_IMAGES = 5000
/** Below this share of held-out digits something is broken, and nothing is written. */
const LEAST_ACCURACY = 0.97

/** Root of the package, from dist/scripts/pretrain/. */
const PACKAGE_ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const DIGIT_TASK: TaskSpec = { kind: 'image-classification', labels: DIGITS }

interface Options {
  readonly steps: number
  readonly seed: string
  readonly threads: number
  readonly out: string
}

function readOptions(): Options | undefined {
  const text = (value: string) => ({ type: 'string', default: value }) as const
  const { values } = parseArgs({
    options: {
      steps: text('10000'),
      seed: text('glyphs'),
      threads: text('2'),
      out: text(join(PACKAGE_ROOT, 'models', 'glyphs')),
      help: { type: 'boolean' }
    }
  })
  if (values.help) return undefined
  return {
    steps: whole('steps', values.steps),
    seed: values.seed,
    threads: whole('threads', values.threads),
    out: values.out
  }
}

function whole(name: string, text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  throw new PeertuneError('config/bad-flag', `--${name} needs a positive whole number, got ${text}`)
}

interface Pupil {
  readonly model: Uint8Array
  readonly labels: readonly string[]
  readonly threads: number
}

/** Opens a graph that is written out first, as the engine reads models from files. */
async function withTrainer<T>({ model, labels, threads }: Pupil, use: (trainer: Trainer) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-pretrain-'))
  const modelPath = join(folder, 'model.onnx')
  try {
    await writeFile(modelPath, model)
    const task: TaskSpec = { kind: 'image-classification', labels }
    const trainer = await openLocalTrainer(
      { modelPath, task, peft: { method: 'full', seed: 'pretrain' }, device: 'cpu', threads },
      { weightsDir: folder }
    )
    return await use(trainer).finally(() => trainer.close())
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Learns to tell chimeras apart; returns the trained weights by name. */
async function learnChimeras({ steps, seed, threads }: Options): Promise<VitWeights> {
  const labels = Array.from({ length: CHIMERA_LABELS }, (_, i) => String(i))
  const untrained = writeModel(buildVit({ ...GLYPH_VIT, labels: CHIMERA_LABELS }, initialWeights(seed)))
  return withTrainer({ model: untrained, labels, threads }, async (trainer) => {
    const parameters = trainer.description.initial.slice()
    const optimiser = createLocalOptimiser({
      trainer,
      batches: chimeraStream(seed, BATCH_SIZE),
      parameters,
      options: {
        learningRate: LEARNING_RATE,
        weightDecay: WEIGHT_DECAY,
        schedule: { kind: 'cosine', totalSteps: steps, warmupSteps: WARMUP_STEPS }
      }
    })
    let sum = 0
    for (let step = 1; step <= steps; step++) {
      sum += await optimiser.step()
      if (step % REPORT_EVERY !== 0) continue
      console.log(`step ${step} of ${steps}, loss ${(sum / REPORT_EVERY).toFixed(3)} nats`)
      sum = 0
    }
    return weightsOf(trainer.description.schema, parameters)
  })
}

function weightsOf(schema: ParameterSchema, parameters: Float32Array): VitWeights {
  const entries = new Map(schema.entries.map((entry) => [entry.name, entry]))
  return (name) => viewOf(parameters, entries.get(name)!)
}

/** The head of the upright, whole digits: their rows of the chimeras' head. */
const digitsOnly =
  (weights: VitWeights): VitWeights =>
  (name, shape) => {
    const values = weights(name, shape)
    if (!name.startsWith('classifier.')) return values
    const width = values.length / CHIMERA_LABELS
    const rows = DIGITS.map((_, digit) =>
      values.subarray(labelOfDigit(digit) * width, (labelOfDigit(digit) + 1) * width)
    )
    return Float32Array.from(rows.flatMap((row) => [...row]))
  }

/** Accuracy on digits drawn as a federation's data are, none of them seen in training. */
const measure = (model: Uint8Array, threads: number): Promise<number> =>
  withTrainer({ model, labels: DIGITS, threads }, async (trainer) => {
    const data = await openDataset(
      { kind: 'glyphs', classes: DIGITS, samples: 1, seed: 'unused', testSamples: TEST_IMAGES, testSeed: 'pretrain' },
      DIGIT_TASK,
      trainer.description
    )
    return (await evaluateDataset(trainer, trainer.description.initial, data.evaluation(100))).accuracy
  })

async function main(options: Options): Promise<void> {
  const model = writeModel(buildVit(GLYPH_VIT, digitsOnly(await learnChimeras(options))))
  const accuracy = await measure(model, options.threads)
  console.log(`${(100 * accuracy).toFixed(2)} % of ${TEST_IMAGES} held-out digits right`)
  if (accuracy < LEAST_ACCURACY) throw new Error(`that is too few: at least ${100 * LEAST_ACCURACY} % are expected`)
  const path = join(options.out, 'model.onnx')
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, model)
  await writeFile(
    join(options.out, 'config.json'),
    `${JSON.stringify(huggingFaceConfig(GLYPH_VIT, DIGITS), null, 2)}\n`
  )
  console.log(`wrote ${path}, ${model.length} bytes`)
}

const options = readOptions()
if (options === undefined) console.log(HELP)
else await main(options)
