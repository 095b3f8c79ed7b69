import { describe, expect, it } from 'vitest'
import { differentiate } from '../../src/autodiff/backward.js'
import { attachEvaluation, attachLoss, EVALUATION_OUTPUTS, LABELS } from '../../src/autodiff/loss.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { expectClose, random } from './gradient-check.js'
import { float32, graph, node } from './graphs.js'
import { map, type NDArray, nd, softmax, sum } from './reference.js'

/** logits = x, so that the gradient of x is that of the logits. */
const identity = (...shape: number[]): Graph =>
  graph({
    inputs: [float32('x', ...shape)],
    outputs: [float32('logits', ...shape)],
    nodes: [node('Identity', ['x'], 'logits')]
  })

const labelled = (x: NDArray, labels: readonly number[]): Record<string, SessionTensor> => ({
  x: { type: 'float32', shape: x.shape, data: Float32Array.from(x.data) },
  [LABELS]: { type: 'int64', shape: x.shape.slice(0, -1), data: Int32Array.from(labels) }
})

async function run(model: Graph, feeds: Record<string, SessionTensor>) {
  const session = await createSession(model)
  const results = await session.run(feeds)
  await session.release()
  return results
}

async function lossAndGradient(x: NDArray, labels: readonly number[]) {
  const { graph: withLoss, loss, seeds } = attachLoss(identity(...x.shape))
  const results = await run(differentiate(withLoss, { loss, seeds, parameters: ['x'] }), labelled(x, labels))
  return { loss: results[loss], gradient: results['x.grad'] }
}

/** The definition: mean of -log softmax over the labels that count, gradient (softmax - onehot) / count. */
function definition(x: NDArray, labels: readonly number[]) {
  const classes = x.shape.at(-1) ?? 1
  const p = softmax(nd([labels.length, classes], x.data), 1)
  const counted = labels.flatMap((label, row) => (label === -100 ? [] : [p.data[row * classes + label] ?? 0]))
  const gradient = p.data.map((value, i) => {
    const label = labels[Math.floor(i / classes)] ?? 0
    return label === -100 ? 0 : (value - (i % classes === label ? 1 : 0)) / counted.length
  })
  return { loss: nd([], [-sum(counted.map(Math.log)) / counted.length]), gradient: nd(x.shape, gradient) }
}

describe('cross entropy', () => {
  for (const [name, shape, labels] of [
    ['classification [batch, classes]', [3, 4], [2, 0, 3]],
    ['language model [batch, seq, vocabulary] with ignored labels', [2, 3, 5], [4, -100, 0, -100, 2, 2]]
  ] as const)
    it(name, async () => {
      const x = random(shape)
      const expected = definition(x, labels)
      const { loss, gradient } = await lossAndGradient(x, labels)
      expectClose('loss', loss, expected.loss)
      expectClose('gradient', gradient, expected.gradient)
    })

  it('is 0 with gradients 0 where no label counts', async () => {
    const { loss, gradient } = await lossAndGradient(random([2, 3]), [-100, -100])
    expect(Array.from(loss?.data ?? [])).toEqual([0])
    expect(Array.from(gradient?.data ?? []).map(Math.abs)).toEqual([0, 0, 0, 0, 0, 0])
  })

  it('stays finite for logits that overflow an exponential', async () => {
    const { loss, gradient } = await lossAndGradient(nd([2, 3], [500, -500, 0, 100, 400, 399]), [1, 2])
    // Row 0: 500 - (-500); row 1: log(1 + e) by hand.
    expectClose('loss', loss, nd([], [(1000 + Math.log1p(Math.E)) / 2]))
    const tail = 1 / (1 + Math.E)
    expectClose('gradient', gradient, nd([2, 3], [0.5, -0.5, 0, 0, 0.5 - tail / 2, (tail - 1) / 2]))
  })

  it('adds labels to the inputs, of the logits’ shape without classes', () => {
    expect(attachLoss(identity(2, 3, 5)).graph.inputs.at(-1)).toEqual({ name: LABELS, type: 'int64', shape: [2, 3] })
  })

  it('refuses a model without logits', () => {
    const model = graph({
      inputs: [float32('x', 2)],
      outputs: [float32('a', 2), float32('b', 2)],
      nodes: [node('Exp', ['x'], 'a'), node('Log', ['x'], 'b')]
    })
    expect(() => attachLoss(model)).toThrowError(expect.objectContaining({ code: 'autodiff/no-logits' }))
    expect(() => attachLoss(identity(4))).toThrowError(expect.objectContaining({ code: 'autodiff/no-logits' }))
  })
})

describe('evaluation', () => {
  it('returns sums over the labels that count', async () => {
    const x = nd([2, 2, 3], [0.5, 3, 1, 2, 0.5, 1, 3, 1, 0.5, 1, 2, 3])
    const labels = [1, 2, -100, 2]
    const results = await run(attachEvaluation(identity(2, 2, 3)), labelled(x, labels))
    const { lossSum, count, correct } = EVALUATION_OUTPUTS
    expectClose(
      'loss sum',
      results[lossSum],
      map(definition(x, labels).loss, (mean) => 3 * mean)
    )
    expect(results[count]?.data[0]).toBe(3)
    expect(results[correct]?.data[0]).toBe(2)
  })
})
