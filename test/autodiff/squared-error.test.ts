import { describe, expect, it } from 'vitest'
import { differentiate } from '../../src/autodiff/backward.js'
import { EVALUATION_OUTPUTS, LABELS } from '../../src/autodiff/loss.js'
import { attachRegressionEvaluation, attachSquaredError, MOMENTS } from '../../src/autodiff/squared-error.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { expectClose } from './gradient-check.js'
import { float32, graph, node } from './graphs.js'
import { nd } from './reference.js'

/** logits = tanh(x), so that a gradient goes through something. */
const model = (...shape: number[]): Graph =>
  graph({
    inputs: [float32('x', ...shape)],
    outputs: [float32('logits', ...shape)],
    nodes: [node('Tanh', ['x'], 'logits')]
  })
const identity = (...shape: number[]): Graph =>
  graph({
    inputs: [float32('x', ...shape)],
    outputs: [float32('logits', ...shape)],
    nodes: [node('Identity', ['x'], 'logits')]
  })

async function run(built: Graph, x: readonly number[], labels: readonly number[], shape: readonly number[]) {
  const session = await createSession(built)
  const feeds: Record<string, SessionTensor> = {
    x: { type: 'float32', shape, data: Float32Array.from(x) },
    [LABELS]: { type: 'float32', shape: [labels.length], data: Float32Array.from(labels) }
  }
  const results = await session.run(feeds)
  await session.release()
  return results
}

const step = async (of: Graph, x: readonly number[], labels: readonly number[], shape = [x.length, 1]) => {
  const { graph: withLoss, loss, seeds } = attachSquaredError(of)
  const results = await run(differentiate(withLoss, { loss, seeds, parameters: ['x'] }), x, labels, shape)
  return { loss: results[loss], gradient: results['x.grad'] }
}

describe('squared error', () => {
  // torch.nn.MSELoss()(x[mask], y[mask]) and its gradient, torch 2.13; the third row is masked.
  it('is that of PyTorch over the rows that count', async () => {
    const { loss, gradient } = await step(identity(4, 1), [0.5, -1.25, 2, 3.5], [1, -2, Number.NaN, 3])
    expectClose('loss', loss, nd([], [0.3541666567325592]))
    expectClose('gradient', gradient, nd([4, 1], [-0.3333333432674408, 0.5, 0, 0.3333333432674408]))
  })

  it('has the gradient that differences show, through a layer, for logits [batch, 1] and [batch]', async () => {
    const x = [0.3, -0.7, 1.1]
    const labels = [0.75, -2.5, 0.25]
    const loss = (at: readonly number[]) =>
      at.reduce((sum, value, i) => sum + (Math.tanh(value) - labels[i]!) ** 2, 0) / at.length
    const h = 1e-5
    const slopes = x.map((_, i) => {
      const moved = (by: number) => x.map((value, j) => (i === j ? value + by : value))
      return (loss(moved(h)) - loss(moved(-h))) / (2 * h)
    })
    for (const shape of [[3, 1], [3]]) {
      const got = await step(model(...shape), x, labels, shape)
      expectClose('loss', got.loss, nd([], [loss(x)]))
      expectClose('gradient', got.gradient, nd(shape, slopes))
    }
  })

  it('is 0 with gradients 0 where no label counts', async () => {
    const { loss, gradient } = await step(identity(2, 1), [5, -3], [Number.NaN, Number.NaN])
    expect([...(loss?.data ?? []), ...(gradient?.data ?? [])].map((value) => Math.abs(Number(value)))).toEqual([
      0, 0, 0
    ])
  })

  it('adds float labels to the inputs, and refuses a model of several outputs', () => {
    expect(attachSquaredError(identity(3, 1)).graph.inputs.at(-1)).toEqual({
      name: LABELS,
      type: 'float32',
      shape: [3]
    })
    expect(() => attachSquaredError(identity(3, 2))).toThrowError(
      expect.objectContaining({ code: 'autodiff/not-scalar', hint: expect.stringContaining('head') })
    )
  })
})

describe('what a regression is measured by', () => {
  it('sums errors and takes moments about the means, without the rows that do not count', async () => {
    const results = await run(
      attachRegressionEvaluation(identity(4, 1)),
      [0.5, -1.25, 2, 3.5],
      [1, -2, Number.NaN, 3],
      [4, 1]
    )
    expectClose('loss sum', results[EVALUATION_OUTPUTS.lossSum], nd([], [3 * 0.3541666567325592]))
    expect(results[EVALUATION_OUTPUTS.count]?.data[0]).toBe(3)
    // By hand: means 2.75/3 and 2/3; products of 0.5-m, -1.25-m, 3.5-m with 1-n, -2-n, 3-n.
    const [m, n] = [2.75 / 3, 2 / 3]
    const [x, y] = [[0.5, -1.25, 3.5].map((value) => value - m), [1, -2, 3].map((value) => value - n)]
    const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
    expectClose('moments', results[MOMENTS], nd([5], [m, n, dot(x, x), dot(y, y), dot(x, y)]))
  })
})
