import { describe, expect, it } from 'vitest'
import { boolConstant, floatConstant, intConstant } from '../../../src/onnx/graph/constant.js'
import type { Attribute, Initializer } from '../../../src/onnx/graph/graph.js'
import { lowerOperators } from '../../../src/onnx/canonical/lower.js'
import { evaluate, float, largestDifference, opsOf, type SmallGraph, typedGraph, wave } from '../small-graph.js'

const int = (value: number) => ({ type: 'int', value }) as const
const real = (value: number) => ({ type: 'float', value }) as const

interface Case {
  readonly op: string
  /** Set for operators of the standard domain. */
  readonly opset?: number
  readonly attributes?: Readonly<Record<string, Attribute>>
  /** float32 inputs by shape, constants as they are, '' where one is left out; in order. */
  readonly inputs: readonly (readonly number[] | Initializer | '')[]
  readonly outputs?: readonly string[]
  /** The one to compare; the last when left out. */
  readonly output?: string
}

/** What makes a node of the case. */
function small({
  op,
  opset,
  attributes = {},
  inputs,
  outputs = ['y'],
  output = outputs.at(-1) as string
}: Case): SmallGraph {
  const named = inputs.map((input, index) => [`x${index}`, input] as const)
  const constants = named.flatMap(([name, input]) =>
    input !== '' && 'data' in input ? [{ ...input, name } as Initializer] : []
  )
  const floats = named.flatMap(([name, input]) => (Array.isArray(input) ? [[name, input as number[]] as const] : []))
  return {
    inputs: Object.fromEntries(floats),
    constants,
    nodes: [
      {
        op,
        domain: opset === undefined ? 'com.microsoft' : '',
        in: named.map(([name, input]) => (input === '' ? '' : name)),
        out: outputs,
        attributes
      }
    ],
    output,
    opset: opset ?? 20
  }
}

/** The runtime's own kernel against the small operators: largest difference of the last output, rows of `only` alone. */
async function expectKernel(
  test: Case,
  { tolerance = 2e-6, only = (index: number) => index >= 0 } = {}
): Promise<void> {
  const graph = small(test)
  const before = await typedGraph(graph)
  const after = lowerOperators(before)
  expect(opsOf(after)).not.toContain(test.op)
  const feeds = Object.fromEntries(
    Object.entries(graph.inputs).map(([name, shape], salt) => [name, float(shape, (i) => wave(i + 11 * salt))])
  )
  const pick = (tensor: Awaited<ReturnType<typeof evaluate>>[string] | undefined) =>
    tensor && ({ ...tensor, data: tensor.data.filter((_, index) => only(index)) } as typeof tensor)
  const [expected, got] = [await evaluate(before, feeds), await evaluate(after, feeds)]
  expect(pick(expected[graph.output])?.data.length).toBeGreaterThan(0)
  expect(largestDifference(pick(expected[graph.output]), pick(got[graph.output]))).toBeLessThan(tolerance)
}

const numbers = (length: number, salt = 0) => Float32Array.from({ length }, (_, index) => wave(index + salt))
const table = (rows: number, columns: number, salt: number) =>
  floatConstant('table', numbers(rows * columns, salt), [rows, columns])
const int32 = (values: readonly number[], shape: readonly number[]): Initializer => ({
  name: 'int32',
  type: 'int32',
  shape,
  data: { kind: 'inline', bytes: new Uint8Array(Int32Array.from(values).buffer) }
})

describe('normalisation', () => {
  it('RMSNormalization', () =>
    expectKernel({ op: 'RMSNormalization', opset: 23, inputs: [[2, 3, 5], [5]], attributes: { epsilon: real(0.1) } }))

  it.each([
    ['bias and a broadcast skip', [[2, 3, 5], [3, 5], [5], [5], [5]]],
    ['no bias', [[2, 3, 5], [2, 3, 5], [5], [5]]],
    ['no beta', [[2, 3, 5], [2, 3, 5], [5]]]
  ])('SkipLayerNormalization: %s', async (_name, inputs) => {
    await expectKernel({ op: 'SkipLayerNormalization', inputs, attributes: { epsilon: real(0.1) } })
    await expectKernel({ op: 'SkipLayerNormalization', inputs, outputs: ['y', '', '', 'sum'] })
  })

  it.each([
    ['bias', [[2, 3, 5], [2, 3, 5], [5], [5]]],
    ['no bias', [[2, 3, 5], [1, 3, 5], [5]]]
  ])('SkipSimplifiedLayerNormalization: %s', async (_name, inputs) => {
    await expectKernel({ op: 'SkipSimplifiedLayerNormalization', inputs, attributes: { epsilon: real(0.1) } })
    await expectKernel({ op: 'SkipSimplifiedLayerNormalization', inputs, outputs: ['y', '', '', 'sum'] })
  })

  it('EmbedLayerNormalization: sum, mask index and given positions', async () => {
    const ids = int32([3, 0, 1, 6, 6, 2], [2, 3])
    const kinds = int32([0, 1, 1, 0, 0, 1], [2, 3])
    const tables = [table(7, 5, 1), table(4, 5, 40), table(2, 5, 70)]
    const op = 'EmbedLayerNormalization'
    const inputs = [ids, kinds, ...tables, [5], [5]]
    await expectKernel({ op, inputs, outputs: ['y', 'mask'], output: 'y', attributes: { epsilon: real(0.1) } })
    await expectKernel({
      op,
      inputs: [ids, '', tables[0] as Initializer, tables[1] as Initializer, '', [5], [5]],
      outputs: ['y', 'mask'],
      output: 'y'
    })
    await expectKernel({ op, inputs, outputs: ['y', 'mask', 'sum'] })
    await expectKernel({
      op,
      inputs: [...inputs, int32([1, 1, 0, 1, 1, 1], [2, 3])],
      outputs: ['y', 'mask'],
      attributes: { mask_index_type: int(1) }
    })
    await expectKernel({
      op,
      inputs: [...inputs, '', int32([2, 1, 0, 0, 0, 3], [2, 3])],
      outputs: ['y', 'mask'],
      output: 'y'
    })
  })

  it.each([
    [20, 2],
    [21, 6],
    [21, 2]
  ])('GroupNormalization of opset %i with %i groups', async (opset, groups) => {
    const inputs = [[2, 6, 3, 5], [opset < 21 ? groups : 6], [opset < 21 ? groups : 6]]
    const attributes = { num_groups: int(groups), epsilon: real(0.1) }
    await expectKernel({ op: 'GroupNormalization', opset, inputs, attributes })
  })
})

describe('FusedMatMul', () => {
  it.each([
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1]
  ])('transA %i, transB %i', (transA, transB) =>
    expectKernel({
      op: 'FusedMatMul',
      inputs: [transA ? [2, 3, 5] : [2, 5, 3], transB ? [2, 4, 3] : [2, 3, 4]],
      attributes: { transA: int(transA), transB: int(transB), alpha: real(0.3) }
    })
  )
})

describe('rotary embeddings', () => {
  for (const interleaved of [0, 1]) {
    const attributes = { interleaved: int(interleaved) }
    it(`of opset 23, interleaved ${interleaved}`, async () => {
      const op = 'RotaryEmbedding'
      await expectKernel({
        op,
        opset: 23,
        attributes,
        inputs: [
          [2, 3, 5, 8],
          [2, 5, 4],
          [2, 5, 4]
        ]
      })
      const positions = intConstant('positions', [0, 1, 2, 3, 4, 6, 2, 3, 4, 5], [2, 5])
      await expectKernel({
        op,
        opset: 23,
        attributes,
        inputs: [[2, 3, 5, 8], table(7, 4, 3), table(7, 4, 9), positions]
      })
      await expectKernel({
        op,
        opset: 23,
        attributes: { ...attributes, rotary_embedding_dim: int(4) },
        inputs: [[2, 3, 5, 8], table(7, 2, 3), table(7, 2, 9), positions]
      })
      await expectKernel({
        op,
        opset: 23,
        attributes: { ...attributes, num_heads: int(3) },
        inputs: [[2, 5, 24], table(7, 4, 3), table(7, 4, 9), positions]
      })
    })

    it(`of com.microsoft, interleaved ${interleaved}`, async () => {
      const op = 'RotaryEmbedding'
      const positions = intConstant('positions', [0, 1, 2, 3, 4, 6, 2, 3, 4, 5], [2, 5])
      await expectKernel({ op, attributes, inputs: [[2, 3, 5, 8], positions, table(7, 4, 3), table(7, 4, 9)] })
      await expectKernel({ op, attributes, inputs: [[2, 5, 24], positions, table(7, 4, 3), table(7, 4, 9)] })
      const start = intConstant('start', [2])
      await expectKernel({ op, attributes, inputs: [[2, 5, 24], start, table(7, 4, 3), table(7, 4, 9)] })
      await expectKernel({
        op,
        attributes: { ...attributes, num_heads: int(3), rotary_embedding_dim: int(4) },
        inputs: [[2, 5, 24], positions, table(7, 2, 3), table(7, 2, 9)]
      })
    })
  }
})

// Row 3 has nothing allowed but column 0, so that the causal mask and it meet.
const allowed = boolConstant(
  'mask',
  Array.from({ length: 25 }, (_, i) => i % 5 === 0 || (i < 15 && i % 3 !== 1)),
  [5, 5]
)

describe('Attention of opset 23', () => {
  const grouped = [
    [2, 4, 5, 3],
    [2, 2, 5, 3],
    [2, 2, 5, 3]
  ]
  const op = 'Attention'
  it.each([
    ['plain', [], {}],
    ['causal', [], { is_causal: int(1) }],
    ['masked, scaled', [allowed], { scale: real(0.21) }],
    ['causal and masked', [allowed], { is_causal: int(1) }],
    ['capped', [], { softcap: real(0.7) }],
    ['causal, masked and capped', [allowed], { is_causal: int(1), softcap: real(0.7) }]
  ])('with grouped queries: %s', (_name, mask, attributes) =>
    expectKernel({ op, opset: 23, inputs: [...grouped, ...mask], attributes })
  )

  it('with an additive mask, capped, other keys than queries', () =>
    expectKernel({
      op,
      opset: 23,
      inputs: [[2, 4, 5, 3], [2, 4, 7, 3], [2, 4, 7, 6], floatConstant('m', numbers(35), [5, 7])],
      attributes: { softcap: real(0.7) }
    }))

  it('on three axes', () =>
    expectKernel({
      op,
      opset: 23,
      inputs: [
        [2, 5, 12],
        [2, 5, 6],
        [2, 5, 8]
      ],
      attributes: { q_num_heads: int(4), kv_num_heads: int(2), is_causal: int(1) }
    }))

  it('refuses a cache, by name', async () => {
    const graph = await typedGraph(
      small({
        op,
        opset: 23,
        inputs: [[2, 4, 5, 3], [2, 4, 5, 3], [2, 4, 5, 3], '', [2, 4, 2, 3], [2, 4, 2, 3]],
        outputs: ['y', 'keys', 'values']
      })
    )
    expect(() => lowerOperators(graph)).toThrowError(
      expect.objectContaining({ code: 'onnx/unsupported-feature', message: 'Attention y uses a key/value cache' })
    )
  })
})

describe('MultiHeadAttention', () => {
  const op = 'MultiHeadAttention'
  const heads = { num_heads: int(3) }
  const qkv = [
    [2, 5, 12],
    [2, 4, 12],
    [2, 4, 6]
  ]
  it.each([
    ['plain', qkv, {}],
    ['scaled', qkv, { scale: real(0.21) }],
    ['with biases', [...qkv, [30]], {}],
    ['with lengths', [...qkv, '', int32([2, 4], [2])], {}],
    ['with a mask', [...qkv, '', int32([1, 0, 1, 1, 1, 1, 1, 0], [2, 4])], { mask_filter_value: real(-30) }],
    [
      'with a mask by query',
      [
        ...qkv,
        '',
        int32(
          Array.from({ length: 40 }, (_, i) => Number(i % 3 !== 1)),
          [2, 5, 4]
        )
      ],
      {}
    ],
    ['with relative positions', [...qkv, '', '', [1, 3, 5, 4]], {}],
    [
      'causal',
      [
        [2, 5, 12],
        [2, 5, 12],
        [2, 5, 6]
      ],
      { unidirectional: int(1) }
    ],
    [
      'with keys and values by head',
      [
        [2, 5, 12],
        [2, 3, 4, 4],
        [2, 3, 4, 4]
      ],
      {}
    ]
  ] as [string, Case['inputs'], Case['attributes']][])('%s', (_name, inputs, attributes) =>
    expectKernel({ op, inputs, attributes: { ...heads, ...attributes } })
  )
})

/** The kernel takes packed inputs on GPUs alone: the same numbers, packed and not, are lowered. */
describe('MultiHeadAttention, packed', () => {
  const [batch, length, heads, size] = [2, 5, 3, 4]
  const part = (which: number) => float([batch, length, heads * size], (index) => wave(index + 1000 * which))
  const packed = (parts: readonly number[]) =>
    float([batch, length, heads, parts.length, size], (index) => {
      const [row, which] = [Math.floor(index / (size * parts.length)), Math.floor(index / size) % parts.length]
      return wave(row * size + (index % size) + 1000 * (parts[which] as number))
    })
  const run = async (feeds: readonly ReturnType<typeof float>[]) => {
    const inputs = feeds.map(({ shape }) => shape)
    const graph = await typedGraph(small({ op: 'MultiHeadAttention', inputs, attributes: { num_heads: int(heads) } }))
    return (await evaluate(lowerOperators(graph), Object.fromEntries(feeds.map((feed, i) => [`x${i}`, feed])))).y
  }
  it('query, key and value', async () =>
    expect(await run([packed([0, 1, 2])])).toEqual(await run([part(0), part(1), part(2)])))
  it('key and value', async () =>
    expect(await run([part(0), packed([1, 2])])).toEqual(await run([part(0), part(1), part(2)])))
})

describe('Attention of com.microsoft', () => {
  const op = 'Attention'
  const inputs = [[2, 5, 7], [7, 36], [36]]
  it.each([
    ['plain', inputs, {}],
    ['with lengths', [...inputs, int32([2, 5], [2])], {}],
    ['with a mask', [...inputs, int32([1, 0, 1, 1, 1, 1, 1, 0, 0, 1], [2, 5])], { mask_filter_value: real(-20) }],
    ['causal', inputs, { unidirectional: int(1) }],
    ['values of another width', [[2, 5, 7], [7, 30], [30]], { qkv_hidden_sizes: { type: 'ints', value: [12, 12, 6] } }],
    ['scaled, with relative positions', [...inputs, '', '', [2, 3, 5, 5]], { scale: real(0.2) }]
  ] as [string, Case['inputs'], Case['attributes']][])('%s', (_name, parts, attributes) =>
    expectKernel({ op, inputs: parts, attributes: { num_heads: int(3), ...attributes } })
  )
})

describe('GroupQueryAttention', () => {
  const op = 'GroupQueryAttention'
  const grouped = { num_heads: int(4), kv_num_heads: int(2) }
  const qkv = [
    [2, 5, 32],
    [2, 5, 16],
    [2, 5, 16]
  ]
  const lengths = int32([4, 4], [2])
  const total = int32([5], [])
  const tables = [table(9, 8, 3), table(9, 8, 9)]
  const wide = [
    [2, 5, 64],
    [2, 5, 32],
    [2, 5, 32]
  ]
  it.each([
    ['plain', [...qkv, '', '', lengths, total], {}],
    ['packed, scaled', [[2, 5, 64], '', '', '', '', lengths, total], { scale: real(0.21) }],
    ['rotated', [...wide, '', '', lengths, total, ...tables], { do_rotary: int(1) }],
    [
      'rotated, interleaved',
      [...wide, '', '', lengths, total, ...tables],
      { do_rotary: int(1), rotary_interleaved: int(1) }
    ],
    ['capped', [...qkv, '', '', lengths, total], { softcap: real(0.7) }],
    ['a window of two', [...qkv, '', '', lengths, total], { local_window_size: int(2) }],
    [
      'capped, with relative positions',
      [...qkv, '', '', lengths, total, '', '', '', [1, 4, 5, 5]],
      { softcap: real(0.7) }
    ]
  ] as [string, Case['inputs'], Case['attributes']][])('%s', (_name, inputs, attributes) =>
    expectKernel({ op, inputs, attributes: { ...grouped, ...attributes }, outputs: ['y', '', ''].slice(0, 1) })
  )

  it('an empty cache, and padding behind the text', () =>
    expectKernel(
      {
        op,
        inputs: [
          ...qkv,
          floatConstant('none', new Float32Array(), [2, 2, 0, 8]),
          floatConstant('none', new Float32Array(), [2, 2, 0, 8]),
          int32([4, 2], [2]),
          total
        ],
        attributes: grouped
      },
      // Of the second sequence three rows are text.
      { only: (index) => index < (5 + 3) * 32 }
    ))

  it('refuses a filled cache', async () => {
    const graph = await typedGraph(
      small({
        op,
        inputs: [[2, 1, 32], [2, 1, 16], [2, 1, 16], [2, 2, 3, 8], [2, 2, 3, 8], int32([3, 3], [2]), int32([4], [])],
        attributes: grouped,
        outputs: ['y', 'k', 'v']
      })
    )
    expect(() => lowerOperators(graph)).toThrowError(/a key\/value cache that is not empty/)
  })
})
