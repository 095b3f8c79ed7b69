import { PeertuneError, isPeertuneError, type ErrorFacts } from '../../base/errors.js'
import type { JsonValue } from '../../base/json.js'
import type { Batch, BatchTensor } from '../../data/batches/batch.js'
import { createSchema, type Shape } from '../../tensor/schema.js'
import type { Frame, Payload } from './frame.js'
import type { Moments } from '../moments.js'
import type { EvaluationResult, StepResult, TrainerDescription, TrainerSpec } from '../trainer.js'

/** Node to trainer. `open` comes first and once; one question at a time; `stop` may follow a question at once. */
export type Request =
  | { readonly kind: 'open'; readonly spec: TrainerSpec }
  | { readonly kind: 'step' | 'evaluate'; readonly parameters: Float32Array; readonly batch: Batch }
  /** Finish what is under way, release the model, exit. Not answered. */
  | { readonly kind: 'stop' }

/** Trainer to node, with the id of the request. */
export type Reply =
  | { readonly kind: 'ready'; readonly description: TrainerDescription }
  /** `peakMb`: resident megabytes of the process at its peak so far. */
  | { readonly kind: 'stepped'; readonly result: StepResult; readonly peakMb: number }
  | { readonly kind: 'evaluated'; readonly result: EvaluationResult; readonly peakMb: number }
  | { readonly kind: 'failed'; readonly failure: Failure }

/** An error as it crosses the process boundary. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly facts: ErrorFacts
  readonly hint?: string
  readonly stack?: string
}

/** The position in this list is the kind byte of a frame. */
const KINDS = ['open', 'step', 'evaluate', 'stop', 'ready', 'stepped', 'evaluated', 'failed'] as const

const frameOf = (
  kind: (typeof KINDS)[number],
  id: number,
  meta: unknown = null,
  payloads: readonly Payload[] = []
): Frame => ({ kind: KINDS.indexOf(kind), id, meta: meta as JsonValue, payloads })

/** Payloads are views of the request's arrays. */
export function requestFrame(request: Request, id: number): Frame {
  if (request.kind === 'open') return frameOf('open', id, request.spec)
  if (request.kind === 'stop') return frameOf('stop', id)
  const { inputs, labels } = request.batch
  const tensors = Object.entries(inputs)
  const meta = { inputs: tensors.map(([name, { shape }]) => ({ name, shape })), labels: labels.shape }
  return frameOf(request.kind, id, meta, [request.parameters, labels.data, ...tensors.map(([, { data }]) => data)])
}

/** Throws `train/bad-message`. */
export function parseRequest({ kind, meta, payloads }: Frame): Request {
  const name = KINDS[kind]
  if (name === 'open') return { kind: name, spec: meta as unknown as TrainerSpec }
  if (name === 'stop') return { kind: name }
  if (name !== 'step' && name !== 'evaluate') return badMessage(kind)
  const [parameters, labels, ...data] = payloads
  const { inputs, labels: shape } = meta as unknown as { inputs: { name: string; shape: Shape }[]; labels: Shape }
  if (!(parameters instanceof Float32Array && (labels instanceof Int32Array || labels instanceof Float32Array)))
    return badMessage(kind)
  const tensors = inputs.map(({ name, shape }, i) => [name, tensorOf(shape, data[i])] as const)
  return { kind: name, parameters, batch: { inputs: Object.fromEntries(tensors), labels: { shape, data: labels } } }
}

function tensorOf(shape: Shape, data: Payload | undefined): BatchTensor {
  if (data instanceof Int32Array) return { type: 'int64', shape, data }
  if (data instanceof Float32Array) return { type: 'float32', shape, data }
  return badMessage('batch')
}

/** Sums and losses travel as float64, not JSON: a loss may be NaN. */
export function replyFrame(reply: Reply, id: number): Frame {
  if (reply.kind === 'failed') return frameOf('failed', id, reply.failure)
  if (reply.kind === 'ready') {
    const { schema, initial, inputs, modelSha256, device } = reply.description
    const tensors = schema.entries.map(({ name, shape }) => ({ name, shape }))
    return frameOf('ready', id, { tensors, inputs, modelSha256, device }, [initial])
  }
  if (reply.kind === 'stepped') return steppedFrame(reply, id)
  const { lossSum, count, correct, moments } = reply.result
  const sums = Float64Array.of(lossSum, count, correct, reply.peakMb)
  return frameOf('evaluated', id, null, moments === undefined ? [sums] : [sums, momentsArray(moments)])
}

/** NaN where there is no cosine. */
function steppedFrame({ result, peakMb }: Extract<Reply, { kind: 'stepped' }>, id: number): Frame {
  const { loss, gradients, float32Cosine = Number.NaN } = result
  return frameOf('stepped', id, null, [Float64Array.of(loss, peakMb, float32Cosine), gradients])
}

function stepped(numbers: Float64Array, gradients: Float32Array): Reply {
  const [loss = Number.NaN, peakMb = 0, float32Cosine = Number.NaN] = numbers
  const cosine = Number.isNaN(float32Cosine) ? {} : { float32Cosine }
  return { kind: 'stepped', result: { loss, gradients, ...cosine }, peakMb }
}

/** Throws `train/bad-message`. */
export function parseReply({ kind, meta, payloads }: Frame): Reply {
  const name = KINDS[kind]
  const [first, second] = payloads
  if (name === 'failed') return { kind: name, failure: meta as unknown as Failure }
  if (name === 'ready' && first instanceof Float32Array)
    return { kind: name, description: describe(meta as unknown as ReadyMeta, first) }
  if (!(first instanceof Float64Array)) return badMessage(kind)
  if (name === 'stepped' && first.length === 3 && second instanceof Float32Array) return stepped(first, second)
  if (name !== 'evaluated' || first.length !== 4) return badMessage(kind)
  const sums = { lossSum: first[0]!, count: first[1]!, correct: first[2]! }
  const result = second instanceof Float64Array ? { ...sums, moments: momentsOf(second) } : sums
  return { kind: name, result, peakMb: first[3]! }
}

const momentsArray = (moments: Moments): Float64Array =>
  Float64Array.of(
    moments.count,
    moments.predicted,
    moments.label,
    moments.predictedSquares,
    moments.labelSquares,
    moments.products
  )

function momentsOf(array: Float64Array): Moments {
  if (array.length !== 6) return badMessage('evaluated')
  const [count, predicted, label, predictedSquares, labelSquares, products] = array as unknown as Sextuple
  return { count, predicted, label, predictedSquares, labelSquares, products }
}
type Sextuple = readonly [number, number, number, number, number, number]

interface ReadyMeta extends Pick<TrainerDescription, 'inputs' | 'modelSha256' | 'device'> {
  readonly tensors: readonly { readonly name: string; readonly shape: Shape }[]
}

function describe({ tensors, inputs, modelSha256, device }: ReadyMeta, initial: Float32Array): TrainerDescription {
  const schema = createSchema(tensors)
  if (initial.length !== schema.size) return badMessage('ready')
  return { schema, initial, inputs, modelSha256, device }
}

function badMessage(what: number | string): never {
  throw new PeertuneError('train/bad-message', 'node and trainer do not understand each other', { facts: { what } })
}

/** Peertune's errors keep code, facts and hint; others become `train/trainer-failed`. */
export function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error)
  const stack = error instanceof Error && error.stack !== undefined ? { stack: error.stack } : {}
  if (!isPeertuneError(error)) return { code: 'train/trainer-failed', message, facts: {}, ...stack }
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return { code: error.code, message, facts: error.facts, ...hint, ...stack }
}

/** The child's stack becomes the cause, so that it is printed where the error is. */
export function errorOf({ code, message, facts, hint, stack }: Failure): PeertuneError {
  return new PeertuneError(code, message, {
    facts,
    ...(hint === undefined ? {} : { hint }),
    ...(stack === undefined ? {} : { cause: `in the trainer process: ${stack}` })
  })
}
