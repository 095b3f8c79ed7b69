import { PeertuneError } from '../base/errors.js'
import { IGNORED_LABEL } from '../data/batches/batch.js'
import type { Graph, ValueInfo } from '../onnx/graph/graph.js'
import { shapeSize, type Shape } from '../tensor/schema.js'
import { createEmitter, type Emitter } from './emit.js'
import { createOps, type Ops } from './ops.js'

/** The graph input that carries the labels, int64. */
export const LABELS = 'labels'
/** Scalar output of the training graph: mean cross entropy in nats over the labels that count. */
export const LOSS = 'loss'
/** Scalar outputs of the evaluation graph: float32 nats, int64, int64. */
export const EVALUATION_OUTPUTS = { lossSum: 'loss_sum', count: 'count', correct: 'correct' } as const

export interface Objective {
  readonly graph: Graph
  readonly loss: string
  /** Where the backward walk starts: the logits, with the closed form (softmax - onehot) / count. */
  readonly seeds: ReadonlyMap<string, string>
}

/**
 * Adds the mean cross entropy of logits [..., classes] and labels [...] (a new int64 input), aligned: a causal LM's
 * labels are already shifted. Classification is [batch, classes] and [batch], a language model [batch, seq, vocabulary]
 * and [batch, seq]. No label that counts gives loss 0 and gradients 0. Throws `autodiff/no-logits`.
 */
export function attachLoss(graph: Graph, logits: string = logitsOf(graph)): Objective {
  const op = opsWithLabels(graph, logits)
  const rows = crossEntropyRows(op, logits)
  const weight = op.div(rows.counts, op.max(op.reduceSum(rows.counts, [0]), op.scalar(1, rows.counts)))
  const loss = op.emitter.alias(op.reshape(op.reduceSum(op.mul(rows.losses, weight), [0]), []), LOSS)
  const softmax = op.mul(rows.probabilities, weight)
  const dLogits = op.scatterElementsAdd(softmax, rows.classes, op.unary('Neg', weight), 1)
  const seed = op.reshape(dLogits, op.shape(logits))
  return { graph: op.emitter.finish([loss, logits, seed]), loss, seeds: new Map([[logits, seed]]) }
}

/** Adds the outputs of EVALUATION_OUTPUTS instead: sums, so that batches add up. Throws `autodiff/no-logits`. */
export function attachEvaluation(graph: Graph, logits: string = logitsOf(graph)): Graph {
  const op = opsWithLabels(graph, logits)
  const { losses, counts, labels, scores } = crossEntropyRows(op, logits)
  const best = op.argMax(scores, 1)
  const total = (rows: string): string => op.reshape(op.reduceSum(rows, [0]), [])
  const outputs = {
    lossSum: total(op.mul(losses, counts)),
    count: total(op.cast(counts, 'int64')),
    correct: total(op.cast(op.compare('Equal', best, labels), 'int64'))
  }
  const { lossSum, count, correct } = EVALUATION_OUTPUTS
  return op.emitter.finish([
    op.emitter.alias(outputs.lossSum, lossSum),
    op.emitter.alias(outputs.count, count),
    op.emitter.alias(outputs.correct, correct)
  ])
}

interface Rows {
  /** Logits [rows, classes]. */
  readonly scores: string
  /** Their softmax, the only other tensor as wide as the vocabulary. */
  readonly probabilities: string
  /** int64[rows, 1] as given, and with the ignored ones replaced by class 0. */
  readonly labels: string
  readonly classes: string
  /** [rows, 1]: 1 where the label counts. */
  readonly counts: string
  /** Cross entropies [rows, 1] in nats, those of ignored labels included. */
  readonly losses: string
}

/**
 * -log softmax(z)[label] = logsumexp(z) - z[label], with logsumexp(z) = max z - log max softmax(z): the largest
 * probability is at least 1 / classes, so nothing under- or overflows and one softmax serves loss and gradient.
 */
function crossEntropyRows(op: Ops, logits: string): Rows {
  const shape = op.shape(logits)
  const classes = shape.at(-1) ?? 1
  const rows = shapeSize(shape) / Math.max(1, classes)
  const scores = op.reshape(logits, [rows, classes])
  const labels = op.reshape(LABELS, [rows, 1])
  const isCounted = op.unary('Not', op.compare('Equal', labels, op.scalar(IGNORED_LABEL, labels)))
  const safe = op.where(isCounted, labels, op.scalar(0, labels))
  const probabilities = op.softmax(scores, 1)
  const logSumExp = op.sub(op.reduceMax(scores, [1]), op.unary('Log', op.reduceMax(probabilities, [1])))
  return {
    scores,
    probabilities,
    labels,
    classes: safe,
    counts: op.cast(isCounted, op.type(logits)),
    losses: op.sub(logSumExp, op.gatherElements(scores, safe, 1))
  }
}

function opsWithLabels(graph: Graph, logits: string): Ops {
  const shape = staticShape(createEmitter(graph), logits)
  const labels: ValueInfo = { name: LABELS, type: 'int64', shape: shape.slice(0, -1) }
  return createOps(createEmitter({ ...graph, inputs: [...graph.inputs, labels] }, 'loss'))
}

function staticShape(emitter: Emitter, logits: string): Shape {
  const { shape } = emitter.typeOf(logits)
  if (shape.length >= 2) return shape
  throw new PeertuneError('autodiff/no-logits', `output ${logits} of shape [${shape}] has no class axis`, {
    facts: { output: logits, shape },
    hint: 'a classifier ends in [batch, classes], a language model in [batch, sequence, vocabulary]'
  })
}

/** The output that labels are compared with: `logits`, or the only one. Throws `autodiff/no-logits`. */
export function logitsOf(graph: Graph): string {
  const names = graph.outputs.map(({ name }) => name)
  const chosen = names.includes('logits') || names.length !== 1 ? 'logits' : names[0]
  if (chosen !== undefined && names.includes(chosen)) return chosen
  throw new PeertuneError('autodiff/no-logits', 'the model has no output named logits', {
    facts: { outputs: names },
    hint: 'export the model with its task head, so that it returns logits'
  })
}
