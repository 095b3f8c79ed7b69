import { describe, expect, it } from 'vitest'
import { floatConstant, intConstant } from '../../../src/onnx/graph/constant.js'
import { fusePatterns } from '../../../src/onnx/canonical/fuse.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { hoistScales } from '../../../src/onnx/canonical/hoist-scale.js'
import { canonicalLinears } from '../../../src/onnx/canonical/linear.js'
import { printGraph } from '../../../src/onnx/graph/print.js'
import { clearDeadShapeOps } from '../../../src/onnx/canonical/dead-shape-ops.js'
import { tidyReshapes } from '../../../src/onnx/graph/reshapes.js'
import {
  evaluate,
  float,
  largestDifference,
  opsOf,
  type SmallGraph,
  type SmallNode,
  typedGraph,
  wave
} from '../small-graph.js'

const axis = (value: number) => ({ axis: { type: 'int', value } }) as const
const perm = (...value: number[]) => ({ perm: { type: 'ints', value } }) as const
const numbers = (length: number) => Float32Array.from({ length }, (_, index) => wave(index + 3))

/** Largest difference that a rewrite makes to the output, and the ops it leaves. The runtime is the judge. */
async function compare(small: SmallGraph, rewrite: (graph: Graph) => Graph) {
  const before = await typedGraph(small)
  const after = rewrite(before)
  const feeds = Object.fromEntries(
    Object.entries(small.inputs).map(([name, shape], salt) => [name, float(shape, (i) => wave(i + 11 * salt))])
  )
  const [expected, got] = [await evaluate(before, feeds), await evaluate(after, feeds)]
  return { ops: opsOf(after), difference: largestDifference(expected[small.output], got[small.output]), after }
}

describe('linear layers', () => {
  const constants = [floatConstant('w', numbers(12), [4, 3]), floatConstant('b', numbers(3))]
  const transposed = [floatConstant('w', numbers(12), [3, 4]), floatConstant('b', numbers(3))]

  it.each([
    ['bias last', ['m', 'b']],
    ['bias first', ['b', 'm']]
  ])('MatMul and Add on three axes become one Gemm: %s', async (_order, inputs) => {
    const { ops, difference, after } = await compare(
      {
        inputs: { x: [2, 5, 4] },
        constants,
        nodes: [
          { op: 'MatMul', in: ['x', 'w'], out: ['m'] },
          { op: 'Add', in: inputs, out: ['y'] }
        ],
        output: 'y'
      },
      canonicalLinears
    )
    expect(ops).toEqual(['Reshape', 'Gemm', 'Reshape'])
    expect(difference).toBeLessThan(1e-6)
    expect(printGraph(after)).toMatchInlineSnapshot(`
      "graph small (onnx 20)
      input x: float32[2, 5, 4]
      const b: float32[3]
      const constant_0: int64[2]
      const constant_3: int64[3]
      const w: float32[4, 3]
      reshape_1: float32[10, 4] = Reshape(x, constant_0)
      gemm_2: float32[10, 3] = Gemm(reshape_1, w, b)
      y: float32[2, 5, 3] = Reshape(gemm_2, constant_3)
      output y: float32[2, 5, 3]"
    `)
  })

  it('a transposed weight becomes a flag, for MatMul and for Gemm', async () => {
    const transpose: SmallNode = { op: 'Transpose', in: ['w'], out: ['wt'], attributes: perm(1, 0) }
    for (const node of [
      { op: 'MatMul', in: ['x', 'wt'], out: ['y'] },
      { op: 'Gemm', in: ['x', 'wt', 'b'], out: ['y'] }
    ]) {
      const small = { inputs: { x: [5, 4] }, constants: transposed, nodes: [transpose, node], output: 'y' }
      const { ops, difference, after } = await compare(small, canonicalLinears)
      expect(ops).toEqual(['Gemm'])
      expect(after.nodes[0]?.attributes.transB).toEqual({ type: 'int', value: 1 })
      expect(difference).toBeLessThan(1e-6)
    }
  })

  it('layers that read one tensor share its flattening', async () => {
    const { ops } = await compare(
      {
        inputs: { x: [2, 5, 4] },
        constants,
        nodes: [
          { op: 'MatMul', in: ['x', 'w'], out: ['q'] },
          { op: 'MatMul', in: ['x', 'w'], out: ['k'] },
          { op: 'Mul', in: ['q', 'k'], out: ['y'] }
        ],
        output: 'y'
      },
      canonicalLinears
    )
    expect(ops.filter((op) => op === 'Reshape')).toHaveLength(3)
  })

  it('a product read twice keeps its own value beside the sum', async () => {
    const { difference } = await compare(
      {
        inputs: { x: [2, 5, 4] },
        constants,
        nodes: [
          { op: 'MatMul', in: ['x', 'w'], out: ['m'] },
          { op: 'Add', in: ['m', 'b'], out: ['a'] },
          { op: 'Mul', in: ['m', 'a'], out: ['y'] }
        ],
        output: 'y'
      },
      canonicalLinears
    )
    expect(difference).toBeLessThan(1e-6)
  })
})

describe('reshapes', () => {
  it('chains collapse, equal ones are shared, idle ones vanish', async () => {
    const { ops, difference } = await compare(
      {
        inputs: { x: [2, 3, 4] },
        constants: [
          intConstant('s', [6, 4]),
          intConstant('t', [2, 1, 12]),
          intConstant('u', [1]),
          intConstant('v', [2, 12])
        ],
        nodes: [
          { op: 'Reshape', in: ['x', 's'], out: ['a'] },
          { op: 'Reshape', in: ['a', 't'], out: ['b'] },
          { op: 'Squeeze', in: ['b', 'u'], out: ['c'] },
          { op: 'Reshape', in: ['x', 'v'], out: ['d'] },
          { op: 'Reshape', in: ['d', 'v'], out: ['e'] },
          { op: 'Mul', in: ['c', 'e'], out: ['f'] },
          { op: 'Flatten', in: ['f'], out: ['y'] }
        ],
        output: 'y'
      },
      tidyReshapes
    )
    expect(ops).toEqual(['Reshape', 'Mul', 'Reshape'])
    expect(difference).toBe(0)
  })
})

describe('fusing', () => {
  const erf: SmallNode[] = [
    { op: 'Div', in: ['x', 'root'], out: ['d'] },
    { op: 'Erf', in: ['d'], out: ['e'] },
    { op: 'Add', in: ['e', 'one'], out: ['p'] }
  ]
  const tanh: SmallNode[] = [
    { op: 'Pow', in: ['x', 'three'], out: ['c'] },
    { op: 'Mul', in: ['c', 'k'], out: ['kc'] },
    { op: 'Add', in: ['x', 'kc'], out: ['s'] },
    { op: 'Mul', in: ['s', 'r'], out: ['rs'] },
    { op: 'Tanh', in: ['rs'], out: ['t'] },
    { op: 'Add', in: ['one', 't'], out: ['p'] }
  ]
  const constants = [
    floatConstant('root', Math.SQRT2),
    floatConstant('one', 1),
    floatConstant('half', 0.5),
    floatConstant('three', 3),
    floatConstant('k', 0.044715),
    floatConstant('r', Math.sqrt(2 / Math.PI))
  ]
  const orders: SmallNode[][] = [
    [
      { op: 'Mul', in: ['x', 'half'], out: ['h'] },
      { op: 'Mul', in: ['h', 'p'], out: ['y'] }
    ],
    [
      { op: 'Mul', in: ['p', 'x'], out: ['h'] },
      { op: 'Mul', in: ['half', 'h'], out: ['y'] }
    ],
    [
      { op: 'Mul', in: ['half', 'p'], out: ['h'] },
      { op: 'Mul', in: ['x', 'h'], out: ['y'] }
    ]
  ]

  it.each(
    orders.flatMap((order, index) => [[index, 'erf', erf, order] as const, [index, 'tanh', tanh, order] as const])
  )('GELU, order %i, by %s', async (_index, _kind, inner, order) => {
    const small = { inputs: { x: [3, 7] }, constants, nodes: [...inner, ...order], output: 'y' }
    const { ops, difference } = await compare(small, fusePatterns)
    expect(ops).toEqual(['Gelu'])
    expect(difference).toBeLessThan(2e-6)
  })

  it('leaves what only looks like GELU', async () => {
    const wrong = constants.map((constant) => (constant.name === 'root' ? floatConstant('root', 1.5) : constant))
    const small = { inputs: { x: [3, 7] }, constants: wrong, nodes: [...erf, ...(orders[0] ?? [])], output: 'y' }
    expect((await compare(small, fusePatterns)).ops).toContain('Erf')
  })

  it.each([
    [
      'Reciprocal',
      [
        { op: 'Reciprocal', in: ['q'], out: ['i'] },
        { op: 'Mul', in: ['x', 'i'], out: ['n'] }
      ],
      ['w', 'n']
    ],
    ['Div', [{ op: 'Div', in: ['x', 'q'], out: ['n'] }], ['n', 'w']]
  ])('RMS normalisation by %s', async (_kind, middle, product) => {
    const { ops, difference } = await compare(
      {
        inputs: { x: [2, 3, 5] },
        constants: [
          floatConstant('two', 2),
          floatConstant('eps', 1e-5),
          intConstant('last', [-1]),
          floatConstant('w', numbers(5))
        ],
        nodes: [
          { op: 'Pow', in: ['x', 'two'], out: ['s'] },
          { op: 'ReduceMean', in: ['s', 'last'], out: ['m'] },
          { op: 'Add', in: ['m', 'eps'], out: ['a'] },
          { op: 'Sqrt', in: ['a'], out: ['q'] },
          ...middle,
          { op: 'Mul', in: product, out: ['y'] }
        ],
        output: 'y'
      },
      fusePatterns
    )
    expect(ops).toEqual(['SimplifiedLayerNormalization'])
    expect(difference).toBeLessThan(2e-6)
  })

  it('slices that cut a tensor into parts become one Split, whatever their order', async () => {
    const small = (first: number): SmallGraph => ({
      inputs: { x: [2, 3, 6] },
      constants: [
        intConstant('zero', [0]),
        intConstant('cut', [first]),
        intConstant('end', [9_000_000]),
        intConstant('axis', [-1])
      ],
      nodes: [
        { op: 'Slice', in: ['x', 'cut', 'end', 'axis'], out: ['b'] },
        { op: 'Slice', in: ['x', 'zero', 'cut', 'axis'], out: ['a'] },
        { op: 'Concat', in: ['b', 'a'], out: ['y'], attributes: axis(-1) }
      ],
      output: 'y'
    })
    for (const cut of [2, 3, -2]) {
      const { ops, difference } = await compare(small(cut), fusePatterns)
      expect(ops).toEqual(['Split', 'Concat'])
      expect(difference).toBe(0)
    }
  })
})

describe('a scale behind a product', () => {
  it.each(['Mul', 'Div'])('%s moves to the smaller factor', async (op) => {
    const { ops, difference, after } = await compare(
      {
        inputs: { q: [2, 7, 3], k: [2, 3, 7] },
        constants: [floatConstant('scale', 0.37)],
        nodes: [
          { op: 'MatMul', in: ['q', 'k'], out: ['s'] },
          { op, in: ['s', 'scale'], out: ['y'] }
        ],
        output: 'y'
      },
      hoistScales
    )
    expect(ops).toEqual([op, 'MatMul'])
    expect(after.nodes[0]?.inputs).toEqual(['q', 'scale'])
    expect(difference).toBeLessThan(2e-6)
  })
})

describe('what older opsets and emptied caches leave behind', () => {
  it.each(['Softmax', 'LogSoftmax'])('%s over flattened rows of the last axis is one over that axis', async (op) => {
    const { ops, difference } = await compare(
      {
        inputs: { x: [2, 3, 5] },
        constants: [intConstant('shape', [2, 3, 5])],
        nodes: [
          { op: 'Flatten', in: ['x'], out: ['rows'], attributes: axis(2) },
          { op, in: ['rows'], out: ['p'], attributes: axis(1) },
          { op: 'Reshape', in: ['p', 'shape'], out: ['y'] }
        ],
        output: 'y'
      },
      clearDeadShapeOps
    )
    expect(ops).toEqual([op])
    expect(difference).toBe(0)
  })

  it('a softmax over two axes at once stays', async () => {
    const { ops } = await compare(
      {
        inputs: { x: [2, 3, 5] },
        constants: [intConstant('shape', [2, 3, 5])],
        nodes: [
          { op: 'Flatten', in: ['x'], out: ['rows'], attributes: axis(1) },
          { op: 'Softmax', in: ['rows'], out: ['p'], attributes: axis(1) },
          { op: 'Reshape', in: ['p', 'shape'], out: ['y'] }
        ],
        output: 'y'
      },
      clearDeadShapeOps
    )
    expect(ops).toEqual(['Flatten', 'Softmax', 'Reshape'])
  })

  it('empty parts of a Concat vanish, and it with them', async () => {
    const none = floatConstant('none', new Float32Array(), [2, 0, 5])
    const nodes = (inputs: string[]): SmallNode[] => [
      { op: 'Concat', in: inputs, out: ['c'], attributes: axis(1) },
      { op: 'Relu', in: ['c'], out: ['y'] }
    ]
    const inputs = { x: [2, 3, 5], z: [2, 1, 5] }
    const alone = await compare(
      { inputs, constants: [none], nodes: nodes(['none', 'x']), output: 'y' },
      clearDeadShapeOps
    )
    expect([alone.ops, alone.difference]).toEqual([['Relu'], 0])
    const two = await compare(
      { inputs, constants: [none], nodes: nodes(['x', 'none', 'z']), output: 'y' },
      clearDeadShapeOps
    )
    expect([two.ops, two.difference]).toEqual([['Concat', 'Relu'], 0])
  })
})
