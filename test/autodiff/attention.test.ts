import { describe, expect, it } from 'vitest'
import { differentiate } from '../../src/autodiff/backward.js'
import { FLAT_GRADIENTS, flattenGradients } from '../../src/autodiff/flatten.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { expectClose, int, ints, random } from './gradient-check.js'
import { float32, graph, node } from './graphs.js'
import { broadcast, map, matmul, type NDArray, nd, reduce, softmax, sum, transpose } from './reference.js'

/** out = softmax(q k^T + mask) v with more positions than features, as in a transformer, and the loss sum(R out). */
const [BATCH, HEADS, QUERIES, KEYS, FEATURES, VALUES] = [2, 3, 6, 7, 2, 3]
const lead = [BATCH, HEADS]
const attention = graph({
  inputs: [
    float32('q', ...lead, QUERIES, FEATURES),
    float32('k', ...lead, KEYS, FEATURES),
    float32('v', ...lead, KEYS, VALUES),
    float32('mask', QUERIES, KEYS),
    float32('R', ...lead, QUERIES, VALUES)
  ],
  outputs: [float32('loss')],
  inner: [
    float32('kT', ...lead, FEATURES, KEYS),
    float32('qk', ...lead, QUERIES, KEYS),
    float32('scores', ...lead, QUERIES, KEYS),
    float32('p', ...lead, QUERIES, KEYS),
    float32('out', ...lead, QUERIES, VALUES),
    float32('weighted', ...lead, QUERIES, VALUES)
  ],
  nodes: [
    node('Transpose', ['k'], 'kT', { perm: ints(0, 1, 3, 2) }),
    node('MatMul', ['q', 'kT'], 'qk'),
    node('Add', ['qk', 'mask'], 'scores'),
    node('Softmax', ['scores'], 'p', { axis: int(-1) }),
    node('MatMul', ['p', 'v'], 'out'),
    node('Mul', ['out', 'R'], 'weighted'),
    node('ReduceSum', ['weighted'], 'loss', { keepdims: int(0) })
  ]
})
const PARAMETERS = ['q', 'k', 'v', 'mask']
const inputs = Object.fromEntries(
  attention.inputs.map(({ name, shape }) => [name, random(shape as number[], { seed: name })])
) as Record<'q' | 'k' | 'v' | 'mask' | 'R', NDArray>

/** The textbook's backward pass (Dao et al. 2022, appendix B.2, before the trick) in double precision. */
function textbook() {
  const { q, k, v, mask, R } = inputs
  const swap = (x: NDArray): NDArray => transpose(x, [0, 1, 3, 2])
  const p = softmax(
    broadcast([matmul(q, swap(k)), mask], (a = 0, b = 0) => a + b),
    3
  )
  const dP = matmul(R, swap(v))
  const total = reduce(
    broadcast([dP, p], (a = 0, b = 0) => a * b),
    [3],
    true,
    sum
  )
  const dS = broadcast([p, dP, total], (a = 0, b = 0, c = 0) => a * (b - c))
  const weighted = broadcast([matmul(p, v), R], (a = 0, b = 0) => a * b)
  return {
    loss: nd([], [sum(weighted.data)]),
    q: matmul(dS, k),
    k: matmul(swap(dS), q),
    v: matmul(swap(p), R),
    mask: reduce(dS, [0, 1], false, sum)
  }
}

const feeds: Record<string, SessionTensor> = Object.fromEntries(
  Object.entries(inputs).map(([name, { shape, data }]) => [
    name,
    { type: 'float32', shape, data: Float32Array.from(data) }
  ])
)

describe('attention', () => {
  const derived = differentiate(attention, { loss: 'loss', parameters: PARAMETERS })

  it('has the textbook’s gradients', async () => {
    const session = await createSession(derived)
    const results = await session.run(feeds)
    await session.release()
    const expected = textbook()
    expectClose('loss', results.loss, expected.loss)
    for (const name of ['q', 'k', 'v', 'mask'] as const)
      expectClose(`gradient of ${name}`, results[`${name}.grad`], expected[name])
  })

  it('transposes nothing as wide as the scores', () => {
    const size = BATCH * HEADS * QUERIES * KEYS
    const wide = derived.nodes.filter(({ op, inputs: [x = ''] }) => {
      const elements = (derived.values.get(x)?.shape ?? []).reduce<number>((product, dim) => product * Number(dim), 1)
      return op === 'Transpose' && elements >= size
    })
    expect(wide).toEqual([])
  })

  it('reads the softmax twice and still counts both readers', async () => {
    // loss = sum(p p): the shortcut through the product does not apply.
    const squared = graph({
      inputs: [float32('x', 2, 4)],
      outputs: [float32('loss')],
      inner: [float32('p', 2, 4), float32('pT', 4, 2), float32('y', 2, 2)],
      nodes: [
        node('Softmax', ['x'], 'p', { axis: int(-1) }),
        node('Transpose', ['p'], 'pT', { perm: ints(1, 0) }),
        node('MatMul', ['p', 'pT'], 'y'),
        node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
      ]
    })
    const x = random([2, 4], { seed: 'x' })
    const session = await createSession(differentiate(squared, { loss: 'loss', parameters: ['x'] }))
    const results = await session.run({ x: { type: 'float32', shape: [2, 4], data: Float32Array.from(x.data) } })
    await session.release()
    // d sum((sum of rows)^2) / dp = 2 * (sum of rows), the same for every row.
    const p = softmax(x, 1)
    const dP = map(reduce(p, [0], true, sum), (v) => 2 * v)
    const total = reduce(
      broadcast([dP, p], (a = 0, b = 0) => a * b),
      [1],
      true,
      sum
    )
    expectClose(
      'gradient',
      results['x.grad'],
      broadcast([p, dP, total], (a = 0, b = 0, c = 0) => a * (b - c))
    )
  })

  it('can return all gradients as one vector', async () => {
    const flat = flattenGradients(
      derived,
      PARAMETERS.map((name) => `${name}.grad`)
    )
    expect(flat.outputs.map(({ name }) => name)).toEqual(['loss', FLAT_GRADIENTS])
    const session = await createSession(flat)
    const results = await session.run(feeds)
    await session.release()
    const { q, k, v, mask } = textbook()
    const joined = [q, k, v, mask].flatMap(({ data }) => data)
    expectClose('all gradients', results[FLAT_GRADIENTS], nd([joined.length], joined))
  })
})
