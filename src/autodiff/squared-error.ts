import { PeertuneError } from '../base/errors.js'
import type { Graph, ValueInfo } from '../onnx/graph/graph.js'
import { createEmitter } from './emit.js'
import { EVALUATION_OUTPUTS, LABELS, LOSS, logitsOf, type Objective } from './loss.js'
import { createOps, type Ops } from './ops.js'

/**
 * Output float32[5] of a regression's evaluation graph: mean of the predictions, mean of the labels, and the sums of
 * squares and of products about those means (predictions, labels, both): what a correlation is made of, centred before
 * anything is squared, so that float32 keeps its digits.
 */
export const MOMENTS = 'moments'

/**
 * Adds the mean squared error of predictions [batch, 1] and labels float32[batch] (a new input), as PyTorch's MSELoss over
 * the rows that count; a label that is NaN does not. d loss / d prediction = 2 (prediction - label) / count. No label that
 * counts gives loss 0 and gradients 0. Throws `autodiff/no-logits`, `autodiff/not-scalar`.
 */
export function attachSquaredError(graph: Graph, logits: string = logitsOf(graph)): Objective {
  const op = opsWithTargets(graph, logits)
  const { differences, counts } = differencesOf(op, logits)
  const weight = op.div(counts, op.max(op.reduceSum(counts, [0]), op.scalar(1, counts)))
  const weighted = op.mul(differences, weight)
  const loss = op.emitter.alias(op.reshape(op.reduceSum(op.mul(differences, weighted), [0]), []), LOSS)
  const seed = op.reshape(op.scale(weighted, 2), op.shape(logits))
  return { graph: op.emitter.finish([loss, logits, seed]), loss, seeds: new Map([[logits, seed]]) }
}

/** Adds the outputs of EVALUATION_OUTPUTS (the summed squared error, the count, 0 right answers) and MOMENTS. */
export function attachRegressionEvaluation(graph: Graph, logits: string = logitsOf(graph)): Graph {
  const op = opsWithTargets(graph, logits)
  const { differences, counts, predictions, labels } = differencesOf(op, logits)
  const total = (rows: string): string => op.reshape(op.reduceSum(rows, [0]), [])
  const number = op.max(op.reduceSum(counts, [0]), op.scalar(1, counts))
  const mean = (rows: string): string => op.div(op.reduceSum(op.mul(rows, counts), [0]), number)
  const centred = (rows: string): string => op.mul(op.sub(rows, mean(rows)), counts)
  const [x, y] = [centred(predictions), centred(labels)]
  const products = [op.mul(x, x), op.mul(y, y), op.mul(x, y)].map((each) => op.reduceSum(each, [0]))
  const moments = op.concat(
    [mean(predictions), mean(labels), ...products].map((each) => op.reshape(each, [1])),
    0
  )
  const counted = total(op.cast(counts, 'int64'))
  const { lossSum, count, correct } = EVALUATION_OUTPUTS
  return op.emitter.finish([
    op.emitter.alias(total(op.mul(differences, differences)), lossSum),
    op.emitter.alias(counted, count),
    op.emitter.alias(op.mul(counted, op.scalar(0, counted)), correct),
    op.emitter.alias(moments, MOMENTS)
  ])
}

/** All [batch, 1]. Differences of rows that do not count are 0, `counts` is 1 where the row does. */
function differencesOf(op: Ops, logits: string) {
  const rows = op.shape(logits)[0] ?? 1
  const predictions = op.reshape(logits, [rows, 1])
  const given = op.reshape(LABELS, [rows, 1])
  // Only NaN differs from itself.
  const isCounted = op.compare('Equal', given, given)
  const counts = op.cast(isCounted, op.type(logits))
  const labels = op.where(isCounted, given, op.scalar(0, given))
  return { predictions, labels, counts, differences: op.mul(op.sub(predictions, labels), counts) }
}

function opsWithTargets(graph: Graph, logits: string): Ops {
  const { shape, type } = createEmitter(graph).typeOf(logits)
  const [rows, ...others] = shape
  if (rows === undefined || others.some((dim) => dim !== 1))
    throw new PeertuneError('autodiff/not-scalar', `output ${logits} of shape [${shape}] is no number a row`, {
      facts: { output: logits, shape },
      hint: 'a regression needs a model that ends in [batch, 1]: name its last layer in `head`, and it is made anew'
    })
  const labels: ValueInfo = { name: LABELS, type, shape: [rows] }
  return createOps(createEmitter({ ...graph, inputs: [...graph.inputs, labels] }, 'loss'))
}
