import { FLAT_GRADIENTS, flattenGradients } from '../../autodiff/flatten.js'
import { EVALUATION_OUTPUTS, LABELS, LOSS } from '../../autodiff/loss.js'
import { MOMENTS } from '../../autodiff/squared-error.js'
import { type ErrorFacts, PeertuneError } from '../../base/errors.js'
import type { Batch, BatchTensor } from '../../data/batches/batch.js'
import { createSession, type Session, type SessionOptions, type SessionTensor } from '../../onnx/runtime/session.js'
import { type ParameterSchema, shapeSize, viewOf } from '../../tensor/schema.js'
import { type ActivationCache, createActivationCache } from './activation-cache.js'
import { createFrozenPart, type FrozenPart } from './frozen-part.js'
import { labelRowsOf } from './label-rows.js'
import { inMicroBatches } from './micro-batch.js'
import type { Moments } from '../moments.js'
import { type BatchShapes, type BuildProgram, LABEL_ROWS, type Program, type ProgramKind } from './program.js'
import { createSessionCache } from './session-cache.js'
import type { EvaluationResult, StepOptions, StepResult, Trainer, TrainerDescription } from '../trainer.js'

export interface LocalTrainerComponents {
  readonly description: TrainerDescription
  readonly buildProgram: BuildProgram
  readonly session?: Pick<SessionOptions, 'device' | 'threads' | 'arena'>
  /** Examples that go through the graph at once; all of a batch by default. */
  readonly microBatch?: number
  /** Bytes for what the frozen parts of programs that have one give. */
  readonly activationCacheBytes?: number
}

interface Compiled {
  /** Graph inputs of the parameters, in schema order. */
  readonly parameterInputs: readonly string[]
  readonly session: Session
  readonly frozen?: FrozenPart
}

/**
 * A trainer in this process. One session per kind and batch shape, built when first met and kept while among the most
 * recently used. A step blocks this thread while the runtime works; child-trainer.ts puts a process around it.
 *
 * Throws `train/wrong-parameters`, `train/wrong-input`, `train/non-finite-loss`, `train/non-finite-gradient` and what
 * building a program throws.
 */
export function createLocalTrainer(components: LocalTrainerComponents): Trainer {
  const whole = createWholeBatchTrainer(components)
  return components.microBatch === undefined ? whole : inMicroBatches(whole, components.microBatch)
}

function createWholeBatchTrainer(components: LocalTrainerComponents): Trainer {
  const { description, buildProgram, session: options, activationCacheBytes = 0 } = components
  const { schema } = description
  const activations = createActivationCache(activationCacheBytes)
  const cache = createSessionCache<Compiled>({
    open: async (kind, shapes) => compile(kind, await buildProgram(kind, shapes), { options, activations, shapes }),
    close: async ({ session, frozen }) => {
      await session.release()
      await frozen?.release()
    }
  })
  const inTurn = createTurns()
  const run = (kind: ProgramKind, parameters: Float32Array, batch: Batch, { signal }: StepOptions = {}) =>
    inTurn(async () => {
      signal?.throwIfAborted()
      const whole = batchTensors(batch)
      checkNames(description, whole)
      const tensors = graphTensors(batch)
      const { parameterInputs, session, frozen } = await cache.get(
        kind,
        shapesOf({ ...tensors, [LABELS]: whole[LABELS] as BatchTensor })
      )
      checkTensors([...session.inputs, ...(frozen?.inputs ?? [])], tensors)
      const below = await frozen?.activations(batch.inputs)
      const given = { ...tensors, ...below, ...parameterFeeds(parameterInputs, schema, parameters) }
      return session.run(Object.fromEntries(session.inputs.map(({ name }) => [name, given[name] as SessionTensor])))
    })
  return {
    description,
    async step(parameters, batch, options): Promise<StepResult> {
      const results = await run('train', parameters, batch, options)
      const loss = scalarOf(results, LOSS)
      if (!Number.isFinite(loss)) throw nonFinite('loss', { loss })
      return { loss, gradients: gradientsOf(results, schema) }
    },
    async evaluate(parameters, batch, options): Promise<EvaluationResult> {
      const results = await run('evaluate', parameters, batch, options)
      const { lossSum, count, correct } = EVALUATION_OUTPUTS
      const sums = {
        lossSum: scalarOf(results, lossSum),
        count: scalarOf(results, count),
        correct: scalarOf(results, correct)
      }
      const moments = results[MOMENTS]?.data
      return moments instanceof Float32Array ? { ...sums, moments: momentsOf(sums.count, moments) } : sums
    },
    close: () => inTurn(() => cache.close())
  }
}

/** One piece of work at a time: a session must not be closed to make room while another call runs it. */
function createTurns() {
  let last: Promise<unknown> = Promise.resolve()
  return <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work)
    last = result.catch(() => undefined)
    return result
  }
}

interface CompileContext {
  readonly options: LocalTrainerComponents['session']
  readonly activations: ActivationCache
  readonly shapes: BatchShapes
}

async function compile(kind: ProgramKind, program: Program, context: CompileContext): Promise<Compiled> {
  const { graph, externalDir, prepack = false, parameters: parameterInputs, gradients, frozen } = program
  // The graph is canonical: the runtime's own rewriting would only make it start later.
  const options = { ...context.options, ...(externalDir && { externalDir }), optimization: 'disabled' } as const
  const whole = kind === 'train' ? flattenGradients(graph, gradients) : graph
  const session = await createSession(whole, { ...options, prepack })
  if (frozen === undefined) return { parameterInputs, session }
  const part = createFrozenPart({
    session: await createSession(frozen.graph, options),
    values: frozen.values,
    batchSize: batchSizeOf(context.shapes),
    cache: context.activations
  })
  return { parameterInputs, session, frozen: part }
}

/** Rows of the model's inputs; the labels may be fewer or more. */
const batchSizeOf = ({ [LABELS]: _labels, [LABEL_ROWS]: _rows, ...inputs }: BatchShapes): number =>
  Object.values(inputs)[0]?.[0] ?? 1

type Tensors = Readonly<Record<string, BatchTensor>>

const batchTensors = ({ inputs, labels: { shape, data } }: Batch): Tensors => ({
  ...inputs,
  [LABELS]: data instanceof Float32Array ? { type: 'float32', shape, data } : { type: 'int64', shape, data }
})

/** What the graph is fed: of many labels that do not count, only those that do and their places. */
function graphTensors(batch: Batch): Tensors {
  const picked = labelRowsOf(batch)
  if (picked === undefined) return batchTensors(batch)
  return { ...batch.inputs, [LABELS]: picked.labels, [LABEL_ROWS]: picked.rows }
}

const shapesOf = (tensors: Tensors): BatchShapes =>
  Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]))

/** Views, not copies: the runtime reads the caller's vector where it lies. */
function parameterFeeds(inputs: readonly string[], schema: ParameterSchema, parameters: Float32Array) {
  if (parameters.length !== schema.size)
    throw new PeertuneError('train/wrong-parameters', `${parameters.length} parameters for ${schema.size} places`, {
      facts: { got: parameters.length, expected: schema.size }
    })
  const feeds: Record<string, SessionTensor> = {}
  for (const [index, entry] of schema.entries.entries()) {
    const input = inputs[index]
    if (input !== undefined) feeds[input] = { type: 'float32', shape: entry.shape, data: viewOf(parameters, entry) }
  }
  return feeds
}

/** The batch must fill the model's inputs, no more and no fewer; known before anything is built for it. */
function checkNames({ inputs }: TrainerDescription, tensors: Tensors): void {
  const wanted = [...inputs.map(({ name }) => name), LABELS]
  const facts = { model: wanted, batch: Object.keys(tensors) }
  for (const name of wanted) if (!(name in tensors)) throw wrongInput(name, 'the batch lacks it', facts)
  for (const name of facts.batch)
    if (!wanted.includes(name)) throw wrongInput(name, 'the model has no such input', facts)
}

/** Types, shapes and lengths, against the graph built for these shapes. */
function checkTensors(inputs: Session['inputs'], tensors: Tensors): void {
  for (const [name, { type, shape, data }] of Object.entries(tensors)) {
    const input = inputs.find((candidate) => candidate.name === name)
    if (input === undefined) continue
    const facts = { got: [type, ...shape], expected: [input.type, ...input.shape] }
    if ((type === 'float32') !== (input.type === 'float32'))
      throw wrongInput(name, `it is ${type}, the model takes ${input.type}`, facts)
    if (input.shape.length !== shape.length || input.shape.some((dim, i) => dim !== shape[i]))
      throw wrongInput(name, `its shape is [${shape}], the model takes [${input.shape}]`, facts)
    if (data.length !== shapeSize(shape))
      throw wrongInput(name, `${data.length} elements do not fill shape [${shape}]`, facts)
  }
}

const wrongInput = (name: string, why: string, facts: ErrorFacts): PeertuneError =>
  new PeertuneError('train/wrong-input', `batch tensor ${name}: ${why}`, { facts: { name, ...facts } })
type Results = Readonly<Record<string, SessionTensor>>

const scalarOf = (results: Results, name: string): number => results[name]?.data[0] ?? Number.NaN

/** In the order of MOMENTS. */
function momentsOf(count: number, [predicted = 0, label = 0, ...products]: Float32Array): Moments {
  const [predictedSquares = 0, labelSquares = 0, both = 0] = products
  return { count, predicted, label, predictedSquares, labelSquares, products: both }
}

/** Fresh from the runtime, in schema order. */
function gradientsOf(results: Results, schema: ParameterSchema): Float32Array {
  const gradients = results[FLAT_GRADIENTS]?.data
  if (!(gradients instanceof Float32Array) || gradients.length !== schema.size)
    throw new PeertuneError('train/wrong-gradients', 'the graph and the schema disagree about the parameters', {
      facts: { got: gradients?.length, expected: schema.size }
    })
  const bad = gradients.findIndex((value) => !Number.isFinite(value))
  if (bad < 0) return gradients
  const entry = schema.entries.find(({ offset, size }) => bad >= offset && bad < offset + size)
  throw nonFinite('gradient', { parameter: entry?.name, value: gradients[bad] })
}

const nonFinite = (what: 'loss' | 'gradient', facts: Record<string, string | number | undefined>): PeertuneError =>
  new PeertuneError(`train/non-finite-${what}`, `the ${what} is not a finite number`, {
    facts,
    hint: 'lower the learning rate, or look for broken examples in the data'
  })
