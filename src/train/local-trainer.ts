import { EVALUATION_OUTPUTS, LABELS, LOSS } from '../autodiff/loss.js'
import { type ErrorFacts, PeertuneError } from '../base/errors.js'
import type { Batch, BatchTensor } from '../data/batch.js'
import { createSession, type Session, type SessionOptions, type SessionTensor } from '../onnx/session.js'
import { type ParameterSchema, shapeSize, viewOf } from '../tensor/schema.js'
import { createSessionCache } from './session-cache.js'
import type { BatchShapes, BuildProgram, Program, ProgramKind } from './program.js'
import type { EvaluationResult, StepResult, Trainer, TrainerDescription } from './trainer.js'

export interface LocalTrainerComponents {
  readonly description: TrainerDescription
  readonly buildProgram: BuildProgram
  readonly session?: Pick<SessionOptions, 'device' | 'threads' | 'arena'>
}

interface Compiled {
  readonly program: Program
  readonly session: Session
}

/**
 * A trainer in this process. One session per kind and batch shape, built when first met and kept while among the most
 * recently used. A step blocks this thread while the runtime works; child-trainer.ts puts a process around it.
 *
 * Gradients are in a buffer that the next step fills again. Throws `train/wrong-parameters`, `train/wrong-input`,
 * `train/non-finite-loss`, `train/non-finite-gradient` and what building a program throws.
 */
export function createLocalTrainer({ description, buildProgram, session: options }: LocalTrainerComponents): Trainer {
  const { schema } = description
  const gradients = new Float32Array(schema.size)
  const cache = createSessionCache<Compiled>({
    open: async (kind, shapes) => {
      const program = await buildProgram(kind, shapes)
      const { externalDir } = program
      const session = await createSession(program.graph, { ...options, ...(externalDir && { externalDir }) })
      return { program, session }
    },
    close: ({ session }) => session.release()
  })
  let turn: Promise<unknown> = Promise.resolve()
  /** One at a time: a session must not be closed to make room while another call runs it. */
  const run = (kind: ProgramKind, parameters: Float32Array, batch: Batch) => {
    const result = turn.then(() => runNow(kind, parameters, batch))
    turn = result.catch(() => undefined)
    return result
  }
  const runNow = async (kind: ProgramKind, parameters: Float32Array, batch: Batch) => {
    const tensors = batchTensors(batch)
    checkNames(description, tensors)
    const { program, session } = await cache.get(kind, shapesOf(tensors))
    checkTensors(session, tensors)
    return { program, results: await session.run({ ...parameterFeeds(program, schema, parameters), ...tensors }) }
  }
  return {
    description,
    async step(parameters, batch): Promise<StepResult> {
      const { program, results } = await run('train', parameters, batch)
      const loss = scalarOf(results, LOSS)
      if (!Number.isFinite(loss)) throw nonFinite('loss', { loss })
      collectGradients(program, schema, results, gradients)
      return { loss, gradients }
    },
    async evaluate(parameters, batch): Promise<EvaluationResult> {
      const { results } = await run('evaluate', parameters, batch)
      const { lossSum, count, correct } = EVALUATION_OUTPUTS
      return {
        lossSum: scalarOf(results, lossSum),
        count: scalarOf(results, count),
        correct: scalarOf(results, correct)
      }
    },
    close: () => turn.then(() => cache.close())
  }
}

type Tensors = Readonly<Record<string, BatchTensor>>

const batchTensors = ({ inputs, labels }: Batch): Tensors => ({ ...inputs, [LABELS]: { type: 'int64', ...labels } })

const shapesOf = (tensors: Tensors): BatchShapes =>
  Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]))

/** Views, not copies: the runtime reads the caller's vector where it lies. */
function parameterFeeds(program: Program, schema: ParameterSchema, parameters: Float32Array) {
  if (parameters.length !== schema.size)
    throw new PeertuneError('train/wrong-parameters', `${parameters.length} parameters for ${schema.size} places`, {
      facts: { got: parameters.length, expected: schema.size }
    })
  const feeds: Record<string, SessionTensor> = {}
  for (const [index, entry] of schema.entries.entries()) {
    const input = program.parameters[index]
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
function checkTensors(session: Session, tensors: Tensors): void {
  for (const [name, { type, shape, data }] of Object.entries(tensors)) {
    const input = session.inputs.find((candidate) => candidate.name === name)
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

/** Into one flat vector in schema order. Preallocated outputs would not save the copy: the runtime makes its own. */
function collectGradients(program: Program, schema: ParameterSchema, results: Results, into: Float32Array): void {
  for (const [index, entry] of schema.entries.entries()) {
    const gradient = results[program.gradients[index] ?? '']
    if (gradient?.data instanceof Float32Array) into.set(gradient.data, entry.offset)
    else throw new PeertuneError('train/no-gradient', `no gradient of ${entry.name}`, { facts: { name: entry.name } })
  }
  const bad = into.findIndex((value) => !Number.isFinite(value))
  if (bad < 0) return
  const entry = schema.entries.find(({ offset, size }) => bad >= offset && bad < offset + size)
  throw nonFinite('gradient', { parameter: entry?.name, value: into[bad] })
}

const nonFinite = (what: 'loss' | 'gradient', facts: Record<string, string | number | undefined>): PeertuneError =>
  new PeertuneError(`train/non-finite-${what}`, `the ${what} is not a finite number`, {
    facts,
    hint: 'lower the learning rate, or look for broken examples in the data'
  })
