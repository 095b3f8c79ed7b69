import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PeftSpec, TaskSpec } from '../../src/base/federation.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from '../../src/data/batches/batch.js'
import { loadTrainableModel } from '../../src/node/model/program.js'
import { specFromConfig } from '../../src/peft/files/adapter-config.js'
import { parametersFrom } from '../../src/peft/files/adapter-format.js'
import { parameterName } from '../../src/peft/files/adapter-keys.js'
import { floatsOf, intsOf, readSafetensors, type SafetensorsEntry } from '../../src/tensor/safetensors.js'
import { type ParameterSchema, viewOf } from '../../src/tensor/schema.js'
import { adamw, createAdamW } from '../../src/train/optimiser/adamw.js'
import { createLocalTrainer } from '../../src/train/step/local-trainer.js'
import type { Trainer } from '../../src/train/trainer.js'

export interface CaseOptions {
  /** Folder of the case: model.onnx, config.json, inputs.safetensors, state.safetensors. */
  readonly directory: string
  /** Sub-folder with expected.safetensors, trajectory.json and, but for `full`, adapter/. */
  readonly method: string
  /** Tensors whose gradient is zero in exact arithmetic. */
  readonly zeroGradientTensors?: readonly string[]
  readonly weightsDir?: string
}

export interface CaseResult {
  /** Largest max|x - ref| / max|ref| over all tensors, float64 reference. */
  readonly worstGradient: number
  readonly worstTensor: string
  /** Largest difference of a loss on the way through the updates, in nats. */
  readonly worstTrajectory: number
}

type Tensors = ReadonlyMap<string, SafetensorsEntry>

const readTensors = async (path: string): Promise<Tensors> => readSafetensors(await readFile(path), path)
const readJson = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>

/** Gradients and AdamW updates of one method on one model, against PyTorch's. Throws what building the graph throws. */
export async function runCase(options: CaseOptions): Promise<CaseResult> {
  const { directory, method } = options
  const expected = await readTensors(join(directory, method, 'expected.safetensors'))
  const task = await taskOf(directory, expected)
  const { peft, start } = await startOf(directory, method)
  const modelPath = join(directory, 'model.onnx')
  const { weightsDir } = options
  const model = await loadTrainableModel({ modelPath, task, peft }, weightsDir === undefined ? {} : { weightsDir })
  const parameters = parametersFrom(start, model.schema)
  const inputs = await readTensors(join(directory, 'inputs.safetensors'))
  const batch = batchOf(inputs, task, method === 'prompt')
  const { buildProgram, ...facts } = model
  const trainer = createLocalTrainer({
    description: { ...facts, device: { used: 'cpu' } },
    buildProgram
  })
  try {
    const { gradients } = await trainer.step(parameters, batch)
    const zero = new Set(options.zeroGradientTensors)
    const worst = compareGradients({ schema: model.schema, gradients, expected, zero })
    const trajectory = await readJson(join(directory, method, 'trajectory.json'))
    return { ...worst, worstTrajectory: await followTrajectory(trainer, { parameters, batch, trajectory }) }
  } finally {
    await trainer.close()
  }
}

async function taskOf(directory: string, expected: Tensors): Promise<TaskSpec> {
  const { architectures } = await readJson(join(directory, 'config.json'))
  const architecture = String((architectures as string[] | undefined)?.[0])
  if (architecture.endsWith('CausalLM') || architecture.endsWith('LMHeadModel')) return { kind: 'causal-lm' }
  const classes = expected.get('logits')?.shape.at(-1) ?? 0
  const labels = Array.from({ length: classes }, (_, index) => `label ${index}`)
  const kind = architecture.includes('Image') ? 'image-classification' : 'sequence-classification'
  return { kind, labels }
}

async function startOf(directory: string, method: string): Promise<{ peft: PeftSpec; start: Tensors }> {
  if (method === 'full')
    return { peft: { method: 'full', seed: '' }, start: await readTensors(join(directory, 'state.safetensors')) }
  const adapter = join(directory, method, 'adapter')
  const start = await readTensors(join(adapter, 'adapter_model.safetensors'))
  if (method === 'bitfit') return { peft: { method, targets: [], head: [], seed: '' }, start }
  return { peft: specFromConfig(await readJson(join(adapter, 'adapter_config.json')), start), start }
}

/** `first`: the label of the first token is one more column in front, for methods that predict it. */
function batchOf(tensors: Tensors, task: TaskSpec, first: boolean): Batch {
  const inputs: Record<string, BatchTensor> = {}
  for (const [name, entry] of tensors)
    if (name !== 'labels')
      inputs[name] =
        entry.type === 'F32'
          ? { type: 'float32', shape: entry.shape, data: Float32Array.from(floatsOf(entry, name)) }
          : { type: 'int64', shape: entry.shape, data: intsOf(entry, name) }
  const labels = tensors.get('labels')
  if (labels === undefined) throw new Error('inputs.safetensors has no labels')
  const data = intsOf(labels, 'labels')
  const [rows = 0, sequence = 1] = labels.shape
  if (task.kind !== 'causal-lm') return { inputs, labels: { shape: labels.shape, data } }
  const columns = sequence + (first ? 1 : 0)
  return { inputs, labels: { shape: [rows, columns], data: shifted(data, rows, columns) } }
}

/** logits[t] are scored against the token at t + 1; a column more starts at the token itself. */
function shifted(labels: Int32Array, rows: number, columns: number): Int32Array {
  const sequence = labels.length / rows
  const ahead = sequence + 1 - columns
  return Int32Array.from({ length: rows * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), (index % columns) + ahead]
    return column < sequence ? (labels[row * sequence + column] as number) : IGNORED_LABEL
  })
}

interface Comparison {
  readonly schema: ParameterSchema
  readonly gradients: Float32Array
  readonly expected: Tensors
  readonly zero: ReadonlySet<string>
}

const maxAbs = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((max, value) => Math.max(max, Math.abs(value)), 0)

/** A float64 gradient below this share of the largest one is rounding noise around zero (a key bias under softmax). */
const ZERO_SHARE = 1e-12

/** A gradient that is zero in exact arithmetic is measured against the method's largest gradient entry. */
function compareGradients({ schema, gradients, expected, zero }: Comparison) {
  const references = new Map(Array.from(expected, ([key, entry]) => [parameterName(key), entry]))
  const scale = maxAbs(gradients)
  let worst = { worstGradient: 0, worstTensor: '' }
  for (const entry of schema.entries) {
    const reference = references.get(entry.name)
    if (reference === undefined) throw new Error(`expected.safetensors has no gradient of ${entry.name}`)
    const want = floatsOf(reference, entry.name)
    const got = viewOf(gradients, entry)
    const size = maxAbs(want)
    const error =
      zero.has(entry.name) || size <= ZERO_SHARE * scale
        ? maxAbs(got) / scale
        : maxAbs(got.map((value, index) => value - (want[index] as number))) / size
    if (error > worst.worstGradient) worst = { worstGradient: error, worstTensor: entry.name }
  }
  return worst
}

interface Run {
  readonly parameters: Float32Array
  readonly batch: Batch
  readonly trajectory: Readonly<Record<string, unknown>>
}

async function followTrajectory(trainer: Trainer, { parameters, batch, trajectory }: Run): Promise<number> {
  const {
    lr,
    betas,
    eps,
    weight_decay: weightDecay
  } = trajectory.optimizer as {
    lr: number
    betas: [number, number]
    eps: number
    weight_decay: number
  }
  const options = { learningRate: lr, beta1: betas[0], beta2: betas[1], epsilon: eps, weightDecay }
  const current = parameters.slice()
  let state = createAdamW(current.length)
  let worst = 0
  for (const reference of trajectory.losses as number[]) {
    const { loss, gradients } = await trainer.step(current, batch)
    worst = Math.max(worst, Math.abs(loss - reference))
    state = adamw(current, gradients, state, options)
  }
  const { loss } = await trainer.step(current, batch)
  return Math.max(worst, Math.abs(loss - (trajectory.loss_after as number)))
}
