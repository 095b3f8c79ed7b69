import { describe, expect, it } from 'vitest'
import { differentiate, gradientName } from '../../src/autodiff/backward.js'
import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { printGraph } from '../../src/onnx/graph/print.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { float, int, ints } from './gradient-check.js'
import { float32, graph, int64, node } from './graphs.js'

const tensor = (shape: readonly number[], ...data: number[]): SessionTensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from(data)
})

async function run(model: Graph, feeds: Record<string, SessionTensor>): Promise<Record<string, number[]>> {
  const session = await createSession(model)
  const results = await session.run(feeds)
  await session.release()
  return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, Array.from(data)]))
}

const opsOf = ({ nodes }: Graph): string[] => nodes.map(({ op }) => op)

describe('differentiate', () => {
  it('sums what arrives at a value read several times', async () => {
    // loss = sum(x * x + x), so d loss / dx = 2 x + 1.
    const model = graph({
      inputs: [float32('x', 2)],
      outputs: [float32('loss')],
      inner: [float32('square', 2), float32('y', 2)],
      nodes: [
        node('Mul', ['x', 'x'], 'square'),
        node('Add', ['square', 'x'], 'y'),
        node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
      ]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['x'] })
    expect(await run(derived, { x: tensor([2], 0.5, 3) })).toEqual({ loss: [12.75], 'x.grad': [2, 7] })
  })

  it('gives zeros of the right shape to a parameter the loss does not see', async () => {
    const model = graph({
      inputs: [float32('x', 2), float32('idle', 1, 3)],
      outputs: [float32('loss')],
      nodes: [node('ReduceSum', ['x'], 'loss', { keepdims: int(0) })]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['idle', 'x'] })
    expect(derived.outputs).toEqual([float32('loss'), float32('idle.grad', 1, 3), float32('x.grad', 2)])
    const results = await run(derived, { x: tensor([2], 0.5, 3), idle: tensor([1, 3], 7, 7, 7) })
    expect(results).toEqual({ loss: [3.5], 'idle.grad': [0, 0, 0], 'x.grad': [1, 1] })
  })

  /** Two linear layers, each with its own parameter; frozen weights are constants. */
  const twoLayers = graph({
    inputs: [float32('x', 2, 3), float32('lower', 3), float32('upper', 2)],
    outputs: [float32('loss')],
    inner: [float32('a', 2, 3), float32('h', 2, 2), float32('b', 2, 2), float32('y', 2, 4)],
    initializers: [
      floatConstant('W1', Float32Array.of(0.5, -1, 2, 3, 0.25, -0.5), [2, 3]),
      floatConstant('W2', Float32Array.of(1, -2, 0.5, 3, -0.75, 2, 1.5, -1), [4, 2])
    ],
    nodes: [
      node('Mul', ['x', 'lower'], 'a'),
      node('Gemm', ['a', 'W1'], 'h', { transB: int(1) }),
      node('Mul', ['h', 'upper'], 'b'),
      node('Gemm', ['b', 'W2'], 'y', { transB: int(1), alpha: float(0.5) }),
      node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
    ]
  })

  it('prints itself: forward as it was, then the walk back', () => {
    const derived = differentiate(twoLayers, { loss: 'loss', parameters: ['lower', 'upper'] })
    expect(printGraph(derived)).toMatchInlineSnapshot(`
      "graph test (onnx 20)
      input x: float32[2, 3]
      input lower: float32[3]
      input upper: float32[2]
      const W1: float32[2, 3]
      const W2: float32[4, 2]
      const ad.constant.0: float32[]
      const ad.constant.10: int64[1]
      const ad.constant.15: int64[1]
      const ad.constant.1: int64[2]
      const ad.constant.3: int64[2]
      const ad.constant.8: int64[1]
      a: float32[2, 3] = Mul(x, lower)
      h: float32[2, 2] = Gemm(a, W1) transB=1
      b: float32[2, 2] = Mul(h, upper)
      y: float32[2, 4] = Gemm(b, W2) alpha=0.5 transB=1
      loss: float32[] = ReduceSum(y) keepdims=0
      ad.Reshape.2: float32[1, 1] = Reshape(ad.constant.0, ad.constant.1)
      ad.Expand.4: float32[2, 4] = Expand(ad.Reshape.2, ad.constant.3)
      ad.Gemm.5: float32[2, 2] = Gemm(ad.Expand.4, W2) alpha=0.5
      ad.Mul.6: float32[2, 2] = Mul(ad.Gemm.5, upper)
      ad.Mul.7: float32[2, 2] = Mul(ad.Gemm.5, h)
      ad.ReduceSum.9: float32[1, 2] = ReduceSum(ad.Mul.7, ad.constant.8)
      ad.Reshape.11: float32[2] = Reshape(ad.ReduceSum.9, ad.constant.10)
      ad.Gemm.12: float32[2, 3] = Gemm(ad.Mul.6, W1)
      ad.Mul.13: float32[2, 3] = Mul(ad.Gemm.12, x)
      ad.ReduceSum.14: float32[1, 3] = ReduceSum(ad.Mul.13, ad.constant.8)
      ad.Reshape.16: float32[3] = Reshape(ad.ReduceSum.14, ad.constant.15)
      lower.grad: float32[3] = Identity(ad.Reshape.16)
      upper.grad: float32[2] = Identity(ad.Reshape.11)
      output loss: float32[], lower.grad: float32[3], upper.grad: float32[2]"
    `)
  })

  it('stops where nothing below depends on a parameter', () => {
    const whole = differentiate(twoLayers, { loss: 'loss', parameters: ['lower', 'upper'] })
    const upper = differentiate(twoLayers, { loss: 'loss', parameters: ['upper'] })
    const count = (model: Graph): number => opsOf(model).filter((op) => op === 'Gemm').length
    expect(count(whole)).toBe(4)
    expect(count(upper)).toBe(3)
  })

  it('reads a frozen weight where it lies, in its own layout', () => {
    const derived = differentiate(twoLayers, { loss: 'loss', parameters: ['lower'] })
    expect(opsOf(derived)).not.toContain('Transpose')
    const readers = derived.nodes.filter(({ inputs }) => inputs.includes('W2'))
    expect(readers.map(({ attributes }) => attributes.transB)).toEqual([int(1), undefined])
  })

  it('reads a tied weight through its transpose', () => {
    const model = graph({
      inputs: [float32('x', 2, 3, 4), float32('p', 4)],
      outputs: [float32('loss')],
      inner: [float32('h', 2, 3, 4), float32('Wt', 4, 5), float32('y', 2, 3, 5)],
      initializers: [floatConstant('W', new Float32Array(20).fill(0.5), [5, 4])],
      nodes: [
        node('Mul', ['x', 'p'], 'h'),
        node('Transpose', ['W'], 'Wt', { perm: ints(1, 0) }),
        node('MatMul', ['h', 'Wt'], 'y'),
        node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
      ]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['p'] })
    expect(opsOf(derived).filter((op) => op === 'Transpose')).toHaveLength(1)
    expect(derived.nodes.filter(({ op }) => op === 'Gemm').map(({ inputs }) => inputs[1])).toEqual(['W'])
  })

  it('joins cotangents of slices that tile an axis', async () => {
    // The two halves of a rotary embedding, in reverse order, and a third reader of the left half.
    const slice = (from: number, to: number, output: string) =>
      node('Slice', ['x', `at${from}`, `at${to}`, 'axis'], output)
    const model = graph({
      inputs: [float32('x', 2, 4)],
      outputs: [float32('loss')],
      inner: [
        ...['left', 'right', 'again', 'r3', 'l2'].map((name) => float32(name, 2, 2)),
        float32('y', 2, 4),
        float32('z', 2, 6)
      ],
      initializers: [
        ...[0, 2, 4].map((at) => intConstant(`at${at}`, [at])),
        intConstant('axis', [-1]),
        floatConstant('three', 3),
        floatConstant('half', 0.5)
      ],
      nodes: [
        slice(2, 4, 'right'),
        slice(0, 2, 'left'),
        slice(0, 2, 'again'),
        node('Mul', ['right', 'three'], 'r3'),
        node('Mul', ['left', 'half'], 'l2'),
        node('Concat', ['r3', 'l2', 'again'], 'z', { axis: int(1) }),
        node('ReduceSum', ['z'], 'loss', { keepdims: int(0) })
      ]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['x'] })
    expect(opsOf(derived).filter((op) => op === 'Pad')).toHaveLength(1)
    const { 'x.grad': gradient } = await run(derived, { x: tensor([2, 4], 1, 2, 3, 4, 5, 6, 7, 8) })
    expect(gradient).toEqual([1.5, 1.5, 3, 3, 1.5, 1.5, 3, 3])
  })

  it('names the op, the node and the module that it cannot differentiate', () => {
    const model = graph({
      inputs: [float32('x', 2)],
      outputs: [float32('loss')],
      inner: [float32('y', 2)],
      nodes: [
        node('ThresholdedRelu', ['x'], 'y', {}, 'encoder.layer.1.act'),
        node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
      ]
    })
    expect(() => differentiate(model, { loss: 'loss', parameters: ['x'] })).toThrowError(
      expect.objectContaining({
        code: 'autodiff/no-rule',
        facts: { op: 'ThresholdedRelu', domain: '', node: 'ThresholdedRelu:y', module: 'encoder.layer.1.act' }
      })
    )
  })

  it('lets no gradient through comparisons and indices', async () => {
    // loss = sum(where(x > 1, x, 0)): the condition depends on x and is flat.
    const model = graph({
      inputs: [float32('x', 3)],
      outputs: [float32('loss')],
      inner: [{ name: 'c', type: 'bool', shape: [3] }, float32('y', 3), int64('best', 1), float32('z', 1)],
      initializers: [floatConstant('one', 1), floatConstant('zero', 0)],
      nodes: [
        node('Greater', ['x', 'one'], 'c'),
        node('Where', ['c', 'x', 'zero'], 'y'),
        node('ArgMax', ['y'], 'best', { axis: int(0) }),
        node('Gather', ['y', 'best'], 'z', { axis: int(0) }),
        node('ReduceSum', ['z'], 'loss', { keepdims: int(0) })
      ]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['x'] })
    expect(await run(derived, { x: tensor([3], 2, 3, 0.5) })).toEqual({ loss: [3], 'x.grad': [0, 1, 0] })
  })

  it('refuses a graph of symbolic shapes', () => {
    const model = graph({
      inputs: [{ name: 'x', type: 'float32', shape: ['batch'] }],
      outputs: [float32('loss')],
      nodes: [node('ReduceSum', ['x'], 'loss', { keepdims: int(0) })]
    })
    expect(() => differentiate(model, { loss: 'loss', parameters: ['x'] })).toThrowError(
      expect.objectContaining({ code: 'autodiff/no-shape' })
    )
  })

  it('splits the gradient of a tie', async () => {
    const model = graph({
      inputs: [float32('x', 3)],
      outputs: [float32('loss')],
      nodes: [node('ReduceMax', ['x'], 'loss', { keepdims: int(0) })]
    })
    const derived = differentiate(model, { loss: 'loss', parameters: ['x'] })
    expect(await run(derived, { x: tensor([3], 2, 0.5, 2) })).toEqual({ loss: [2], 'x.grad': [0.5, 0, 0.5] })
  })

  it('calls gradients by their parameters', () => expect(gradientName('h.0.lora_A')).toBe('h.0.lora_A.grad'))
})
