import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import type { Graph, Initializer } from '../../../src/onnx/graph/graph.js'
import { largestExactCode } from '../../../src/onnx/runtime/int8-probe.js'
import { computeInt8, inlineInt8, type Int8Weight } from '../../../src/onnx/int8/products.js'
import { createInt8Store } from '../../../src/onnx/int8/store.js'
import { quantiseMatrix } from '../../../src/onnx/int8/weight.js'
import { evaluate, opsOf, typedGraph } from '../small-graph.js'

const [ROWS, INNER, OUTER] = [33, 40, 70]

const noise = (length: number, salt: string): Float32Array => {
  const rng = seededRng('int8', salt)
  return Float32Array.from({ length }, () => rng.uniform() + rng.uniform() + rng.uniform() - 1.5)
}

const int = (value: number) => ({ type: 'int', value }) as const

/** y = x W + b, W as it lies or by its transpose. */
const linear = (transposed: boolean, matrix?: Initializer): Promise<Graph> =>
  typedGraph({
    inputs: { x: [ROWS, INNER] },
    constants: [
      matrix ?? floatConstant('w', noise(INNER * OUTER, 'w'), transposed ? [OUTER, INNER] : [INNER, OUTER]),
      floatConstant('b', noise(OUTER, 'b'))
    ],
    nodes: [{ op: 'Gemm', in: ['x', 'w', 'b'], out: ['y'], attributes: { transB: int(transposed ? 1 : 0) } }],
    output: 'y'
  })

const weightOf = (values: Float32Array) => (matrix: Initializer, transposed: boolean) => {
  const [rows = 0, columns = 0] = matrix.shape
  const coded = quantiseMatrix(values, { rows, columns, transposed, largest: 127 })
  return inlineInt8(`${matrix.name}8`, { ...coded, shape: transposed ? [columns, rows] : [rows, columns] })
}

/** Root of the mean square of the difference over that of the reference, row by row. */
function rowErrors(got: Float32Array, want: Float32Array): number[] {
  return Array.from({ length: ROWS }, (_, row) => {
    let [difference, square] = [0, 0]
    for (let i = row * OUTER; i < (row + 1) * OUTER; i++) {
      difference += ((got[i] as number) - (want[i] as number)) ** 2
      square += (want[i] as number) ** 2
    }
    return Math.sqrt(difference / square)
  })
}

const feed = (data: Float32Array) => ({ x: { type: 'float32', shape: [ROWS, INNER], data } as const })
const resultOf = async (graph: Graph, x: Float32Array, externalDir?: string): Promise<Float32Array> =>
  (await evaluate(graph, feed(x), externalDir)).y?.data as Float32Array

describe('a matrix in 8 bits', () => {
  it('is rounded to 127 levels of its own column', () => {
    const values = Float32Array.of(3, -0.5, -1.4, 0.2, 0.6, 0)
    const { codes, scales } = quantiseMatrix(values, { rows: 3, columns: 2, transposed: false, largest: 127 })
    expect(Array.from(scales)).toEqual([Math.fround(3 / 127), Math.fround(0.5 / 127)])
    expect(Array.from(codes)).toEqual([127, -127, -59, 51, 25, 0])
  })

  it('is turned around where the product reads its transpose', () => {
    const values = Float32Array.of(3, -0.5, -1.4, 0.2, 0.6, 0)
    const { codes, scales } = quantiseMatrix(values, { rows: 3, columns: 2, transposed: true, largest: 64 })
    expect(Array.from(scales)).toEqual([3 / 64, 1.4 / 64, 0.6 / 64].map(Math.fround))
    expect(Array.from(codes)).toEqual([64, -64, 64, -11, 9, 0])
  })

  it('loses at most half a level of each column', () => {
    const matrix = fc.array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 15, maxLength: 15 })
    fc.assert(
      fc.property(matrix, fc.boolean(), (values, transposed) => {
        const layout = { rows: 5, columns: 3, transposed, largest: 127 }
        const { codes, scales } = quantiseMatrix(Float32Array.from(values), layout)
        for (const [at, value] of values.entries()) {
          const [row, column] = [Math.floor(at / 3), at % 3]
          const code = codes[transposed ? column * 5 + row : at] as number
          const scale = scales[transposed ? row : column] as number
          expect(Math.abs(code * scale - value)).toBeLessThanOrEqual(Math.max(scale * 0.5001, 1e-30))
        }
      })
    )
  })
})

describe('products in 8 bits', () => {
  it.each([false, true])('come within two hundredths of each row (transposed: %s)', async (transposed) => {
    const graph = await linear(transposed)
    const x = noise(ROWS * INNER, 'x')
    const coded = computeInt8(graph, { weight: weightOf(noise(INNER * OUTER, 'w')) })
    expect(opsOf(coded)).toContain('MatMulIntegerToFloat')
    expect(opsOf(coded)).not.toContain('Gemm')
    const [got, want] = [await resultOf(coded, x), await resultOf(graph, x)]
    const errors = rowErrors(got, want)
    expect(Math.max(...errors)).toBeLessThan(0.02)
    // Rounded, not copied: an exact result would mean that nothing was coded.
    expect(Math.min(...errors)).toBeGreaterThan(1e-4)
  })

  it('a loud row takes no digits from the others, and a row of zeros stays zeros', async () => {
    const x = noise(ROWS * INNER, 'x')
    for (let i = 0; i < INNER; i++) {
      x[3 * INNER + i] = 1e6 * (x[3 * INNER + i] as number)
      x[4 * INNER + i] = 0
    }
    const graph = await linear(false)
    const coded = computeInt8(graph, { weight: weightOf(noise(INNER * OUTER, 'w')) })
    const [got, want] = [await resultOf(coded, x), await resultOf(graph, x)]
    expect(Math.max(...rowErrors(got, want))).toBeLessThan(0.02)
    expect(got.subarray(4 * OUTER, 5 * OUTER)).toEqual(noise(OUTER, 'b'))
  })

  it('what reads one operand shares its codes', async () => {
    const graph = await typedGraph({
      inputs: { x: [ROWS, INNER] },
      constants: [
        floatConstant('q', noise(INNER * OUTER, 'q'), [INNER, OUTER]),
        floatConstant('k', noise(INNER * OUTER, 'k'), [INNER, OUTER])
      ],
      nodes: [
        { op: 'Gemm', in: ['x', 'q'], out: ['a'] },
        { op: 'Gemm', in: ['x', 'k', 'a'], out: ['y'] }
      ],
      output: 'y'
    })
    const weight = (matrix: Initializer, transposed: boolean): Int8Weight =>
      weightOf(noise(INNER * OUTER, matrix.name))(matrix, transposed)
    const coded = computeInt8(graph, { weight })
    expect(opsOf(coded).filter((op) => op === 'QuantizeLinear')).toHaveLength(1)
    const x = noise(ROWS * INNER, 'x')
    expect(Math.max(...rowErrors(await resultOf(coded, x), await resultOf(graph, x)))).toBeLessThan(0.03)
  })

  it('leaves products with factors, transposed or small operands and parameters alone', async () => {
    const nodes = [
      { op: 'Gemm', in: ['x', 'w'], out: ['a'], attributes: { alpha: { type: 'float', value: 0.5 } as const } },
      { op: 'Gemm', in: ['few', 'w'], out: ['b'] },
      { op: 'Gemm', in: ['x', 'p'], out: ['c'] },
      { op: 'Add', in: ['a', 'c'], out: ['d'] },
      { op: 'Gemm', in: ['ones', 'b', 'd'], out: ['y'], attributes: { transA: int(1) } }
    ]
    const graph = await typedGraph({
      inputs: { x: [ROWS, INNER], few: [2, INNER], p: [INNER, OUTER], ones: [2, ROWS] },
      constants: [floatConstant('w', noise(INNER * OUTER, 'w'), [INNER, OUTER])],
      nodes,
      output: 'y'
    })
    const coded = computeInt8(graph, { weight: () => expect.unreachable() as never })
    expect(opsOf(coded)).toEqual(nodes.map(({ op }) => op))
  })

  it("this machine's kernels add up exactly, or half of the range is used", async () => {
    expect([64, 127]).toContain(await largestExactCode())
  })
})

/** As it is after rounding: multiplying by it shows the error of the other operand alone. */
const roundedMatrix = (): Float32Array => {
  const { codes, scales } = quantiseMatrix(noise(INNER * OUTER, 'w'), {
    rows: INNER,
    columns: OUTER,
    transposed: false,
    largest: 127
  })
  return Float32Array.from(codes, (code, i) => code * (scales[i % OUTER] as number))
}

describe('operands in 16 bits', () => {
  it.each([false, true])(
    'keep small numbers beside one that is a thousand times as large (transposed: %s)',
    async (t) => {
      const w = roundedMatrix()
      const turned = Float32Array.from(w, (_, i) => w[(i % INNER) * OUTER + Math.floor(i / INNER)] as number)
      const graph = await linear(t, floatConstant('w', t ? turned : w, t ? [OUTER, INNER] : [INNER, OUTER]))
      const x = noise(ROWS * INNER, 'x')
      for (let row = 0; row < ROWS; row++) x[row * INNER + (row % INNER)] = 1000
      // What the loud column gives is taken off: only the small numbers' share is compared.
      const quiet = (y: Float32Array) =>
        y.map((value, i) => value - 1000 * (w[(Math.floor(i / OUTER) % INNER) * OUTER + (i % OUTER)] as number))
      const weight = weightOf(t ? turned : w)
      const want = quiet(await resultOf(graph, x))
      const errorOf = async (fine: ReadonlySet<string>) =>
        Math.max(...rowErrors(quiet(await resultOf(computeInt8(graph, { weight, fine }), x)), want))
      // Steps of 1000 / 127 leave nothing of numbers below 1.5; steps of 1000 / 127 / 254 a few hundredths.
      expect(await errorOf(new Set())).toBeGreaterThan(0.5)
      expect(await errorOf(new Set(['w']))).toBeLessThan(0.05)
    }
  )

  /** (softmax(z) * weight - onehot(labels) * weight) W, as the gradient of a cross entropy reaches the last layer. */
  const crossEntropyGradient = (): Promise<Graph> =>
    typedGraph({
      inputs: { z: [ROWS, INNER], weight: [ROWS, 1], labels: [ROWS, 1] },
      types: { labels: 'int64' },
      constants: [floatConstant('w', noise(INNER * OUTER, 'w'), [INNER, OUTER])],
      nodes: [
        { op: 'Softmax', in: ['z'], out: ['p'], attributes: { axis: int(1) } },
        { op: 'Mul', in: ['p', 'weight'], out: ['weighted'] },
        { op: 'Neg', in: ['weight'], out: ['negative'] },
        {
          op: 'ScatterElements',
          in: ['weighted', 'labels', 'negative'],
          out: ['g'],
          attributes: { axis: int(1), reduction: { type: 'string', value: 'add' } }
        },
        { op: 'Gemm', in: ['g', 'w'], out: ['y'] }
      ],
      output: 'y'
    })

  it('are right about rows whose label is all but certain, where probability and label cancel', async () => {
    const graph = await crossEntropyGradient()
    const coded = computeInt8(graph, { weight: weightOf(noise(INNER * OUTER, 'w')), fine: new Set(['w']) })
    expect(opsOf(coded)).not.toContain('ScatterElements')
    expect(opsOf(coded)).not.toContain('ReduceMin')
    const labels = Int32Array.from({ length: ROWS }, (_, row) => (7 * row) % INNER)
    // The label's probability goes from a fortieth to 0.98.
    const z = noise(ROWS * INNER, 'z').map((value, i) =>
      i % INNER === labels[Math.floor(i / INNER)] ? (8 * Math.floor(i / INNER)) / ROWS : value
    )
    const weight = Float32Array.from({ length: ROWS }, (_, row) => 0.5 + row / 10)
    const feeds = {
      z: { type: 'float32', shape: [ROWS, INNER], data: z },
      weight: { type: 'float32', shape: [ROWS, 1], data: weight },
      labels: { type: 'int64', shape: [ROWS, 1], data: labels }
    } as const
    const [got, want] = [await evaluate(coded, feeds), await evaluate(graph, feeds)]
    const errors = rowErrors(got.y?.data as Float32Array, want.y?.data as Float32Array)
    expect(Math.max(...errors)).toBeLessThan(0.03)
  })
})

describe('matrices in files', () => {
  let externalDir: string
  let directory: string
  beforeAll(async () => {
    externalDir = await mkdtemp(join(tmpdir(), 'peertune-int8-'))
    directory = join(externalDir, 'made')
    await writeFile(join(externalDir, 'model.data'), new Uint8Array(noise(INNER * OUTER, 'w').buffer))
  })
  afterAll(() => rm(externalDir, { recursive: true }))

  it('are made once, and serve together with the model’s own file', async () => {
    const length = INNER * OUTER * Float32Array.BYTES_PER_ELEMENT
    const matrix: Initializer = {
      name: 'w',
      type: 'float32',
      shape: [INNER, OUTER],
      data: { kind: 'external', location: 'model.data', offset: 0, length }
    }
    const inline = await linear(false)
    const graph = { ...inline, initializers: new Map([...inline.initializers, ['w', matrix]]) }
    const x = noise(ROWS * INNER, 'x')
    const want = await resultOf(graph, x, externalDir)
    for (const attempt of ['made', 'found']) {
      const store = createInt8Store({ directory, externalDir, largest: 127 })
      const coded = computeInt8(graph, { weight: store.weight })
      store.adopt(coded)
      expect(Math.max(...rowErrors(await resultOf(coded, x, directory), want)), attempt).toBeLessThan(0.02)
      expect((await readdir(directory)).filter((name) => name.endsWith('.int8'))).toHaveLength(1)
    }
    const both = createInt8Store({ directory, externalDir, largest: 127 })
    both.adopt(graph)
    expect(await readdir(directory)).toContain('model.data')
    expect(await resultOf(graph, x, directory)).toEqual(want)
  })
})
