import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Dataset } from '../../src/data/batches/batch.js'
import { openDataset } from '../../src/data/source.js'
import { openLocalTrainer } from '../../src/node/model/open-trainer.js'
import { quantiseModel } from '../../src/node/model/quantise-model.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import type { Arithmetic, Trainer } from '../../src/train/trainer.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'

const LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const TASK = { kind: 'causal-lm' } as const
const BATCH_SIZE = 16
const LEARNING_RATE = 3e-3
/** Nats by which the int4 base may fall behind the float32 base. */
const LIMIT_NATS = 0.02

/**
 * What a quantised base and 8-bit products with an exact one cost: a trained Llama with LoRA on all linear layers, fine-tuned on a play in float32, int8 and
 * int4, from the same adapter and in the same order of examples; mean held-out loss in nats per token.
 */
export async function run(args: readonly string[]): Promise<object> {
  const options = {
    model: { type: 'string' },
    text: { type: 'string' },
    steps: { type: 'string', default: '200' },
    threads: { type: 'string', default: '1' }
  } as const
  const { model, text, steps, threads } = parseArgs({ args: [...args], options }).values
  if (model === undefined || text === undefined)
    throw new Error('usage: npm run bench -- quantised --model DIR --text FILE [--steps N] [--threads N] [--json]')
  const folder = await mkdtemp(join(tmpdir(), 'peertune-quantised-'))
  const common = { model, text, steps: Number(steps), threads: Number(threads) }
  try {
    const original = join(model, 'model.onnx')
    const float32 = await train(original, common)
    const int8Arithmetic = await train(original, { ...common, arithmetic: 'int8' })
    const results: Record<string, TrainedLoss> = { float32, int8Arithmetic }
    for (const bits of [8, 4] as const) {
      const out = join(folder, `int${bits}.onnx`)
      await quantiseModel(original, { bits, out, weightsDir: folder })
      results[`int${bits}`] = await train(out, common)
    }
    const int8ArithmeticBehindNats = int8Arithmetic.after - float32.after
    const behindNats = (results.int4?.after ?? Number.NaN) - float32.after
    return {
      steps: common.steps,
      ...results,
      int8ArithmeticBehindNats,
      behindNats,
      limitNats: LIMIT_NATS,
      ratio: behindNats / LIMIT_NATS
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface Settings {
  readonly model: string
  readonly text: string
  readonly steps: number
  readonly threads: number
  readonly arithmetic?: Arithmetic
}

interface TrainedLoss {
  /** Of the first step's gradients to those in float32. */
  readonly float32Cosine?: number
  readonly before: number
  readonly after: number
  readonly stepMs: number
}

async function train(
  modelPath: string,
  { model, text, steps, threads, arithmetic = 'float32' }: Settings
): Promise<TrainedLoss> {
  const trainer = await openLocalTrainer({
    modelPath,
    task: TASK,
    peft: { method: 'lora', rank: 8, alpha: 16, targets: LINEARS, head: [], seed: 'quantised' },
    device: 'cpu',
    threads,
    arithmetic
  })
  const dataset: Dataset = await openDataset(
    {
      kind: 'text',
      path: text,
      tokenizer: join(model, 'tokenizer.json'),
      sequenceLength: 128,
      seed: 'quantised',
      split: { by: 'speaker', peers: 1 }
    },
    TASK,
    trainer.description
  )
  const parameters = trainer.description.initial.slice()
  const options = { learningRate: LEARNING_RATE, weightDecay: 0, schedule: { kind: 'constant' } } as const
  const lossNow = async () => (await evaluateDataset(trainer, parameters, dataset.evaluation(BATCH_SIZE))).loss
  const before = await lossNow()
  let float32Cosine: number | undefined
  const watched: Pick<Trainer, 'step'> = {
    async step(...request) {
      const result = await trainer.step(...request)
      float32Cosine ??= result.float32Cosine
      return result
    }
  }
  const optimiser = createLocalOptimiser({
    trainer: watched,
    batches: dataset.batches(BATCH_SIZE),
    parameters,
    options
  })
  const start = performance.now()
  for (let i = 0; i < steps; i++) await optimiser.step()
  const stepMs = (performance.now() - start) / steps
  const cosine = float32Cosine === undefined ? {} : { float32Cosine }
  const result = { before, after: await lossNow(), stepMs, ...cosine }
  await trainer.close()
  console.log(`${modelPath}: ${before.toFixed(4)} before, ${result.after.toFixed(4)} after ${steps} steps`)
  return result
}
