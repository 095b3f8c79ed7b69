import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { loadTrainableModel } from '../../../src/node/model/program.js'
import { canonicalise, nameModel } from '../../../src/onnx/canonical/canonicalise.js'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer } from '../../../src/onnx/graph/graph.js'
import { lowerMatMulNBits, unshareDequantised } from '../../../src/onnx/int8/quantised.js'
import { parseModel } from '../../../src/onnx/file/read.js'
import { createSession } from '../../../src/onnx/runtime/session.js'
import { inferTypes } from '../../../src/onnx/canonical/specialise.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { createLocalTrainer } from '../../../src/train/step/local-trainer.js'
import { evaluate, float, largestDifference, opsOf, type SmallNode, smallGraph, wave } from '../small-graph.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-quantised-'))
})
afterAll(() => rm(folder, { recursive: true }))

const int = (value: number) => ({ type: 'int', value }) as const

const bytes = (name: string, shape: readonly number[], type: Initializer['type'] = 'uint8'): Initializer => {
  const rng = seededRng('quantised test', name)
  const length = shape.reduce((a, b) => a * b, 1)
  const data = Uint8Array.from({ length }, () => Math.floor(256 * rng.uniform()))
  return { name, type, shape, data: { kind: 'inline', bytes: data } }
}
const scales = (name: string, shape: readonly number[]): Initializer => {
  const rng = seededRng('quantised test', name)
  const length = shape.reduce((a, b) => a * b, 1)
  return floatConstant(
    name,
    Float32Array.from({ length }, () => 0.01 + 0.02 * rng.uniform()),
    shape
  )
}

interface Packed {
  readonly bits: number
  readonly rows: number
  readonly columns: number
  readonly block: number
  readonly zeros?: boolean
  readonly bias?: boolean
}

/** y = x W^T (+ bias), W [rows, columns] packed, under the module `name`. */
function packedLinear(name: string, x: string, y: string, options: Packed) {
  const { bits, rows, columns, block, zeros = false, bias = false } = options
  const perRow = Math.ceil(columns / block)
  const constants = [
    bytes(`${name}.B`, [rows, perRow, (block * bits) / 8]),
    scales(`${name}.scales`, [rows * perRow]),
    ...(zeros ? [bytes(`${name}.zeros`, [rows * Math.ceil((perRow * bits) / 8)])] : []),
    ...(bias
      ? [
          floatConstant(
            `${name}.bias`,
            Float32Array.from({ length: rows }, (_, i) => wave(i))
          )
        ]
      : [])
  ]
  const [packed = '', scale = ''] = constants.map((constant) => constant.name)
  const node: SmallNode = {
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    name: `/${name.replaceAll('.', '/')}/MatMulNBits`,
    module: name,
    in: [x, packed, scale, zeros ? `${name}.zeros` : '', '', ...(bias ? [`${name}.bias`] : [])],
    out: [y],
    attributes: { K: int(columns), N: int(rows), bits: int(bits), block_size: int(block) } as Record<string, Attribute>
  }
  return { constants, node }
}

const packings: readonly Packed[] = [
  { bits: 4, rows: 6, columns: 64, block: 32 },
  { bits: 4, rows: 5, columns: 64, block: 16, zeros: true },
  { bits: 4, rows: 5, columns: 48, block: 16, zeros: true, bias: true },
  { bits: 4, rows: 7, columns: 40, block: 32, zeros: true },
  { bits: 4, rows: 7, columns: 40, block: 16, bias: true },
  { bits: 8, rows: 5, columns: 48, block: 16, zeros: true, bias: true },
  { bits: 8, rows: 6, columns: 40, block: 32 }
]

describe('MatMulNBits as DequantizeLinear and a product', () => {
  for (const packing of packings)
    it(JSON.stringify(packing), async () => {
      const { constants, node } = packedLinear('proj', 'x', 'y', packing)
      const x = float([2, 3, packing.columns], wave)
      const graph = await inferTypes(
        smallGraph({ inputs: { x: x.shape }, constants, nodes: [node], output: 'y', opset: 21 })
      )
      const lowered = await inferTypes(lowerMatMulNBits(graph))
      expect(opsOf(lowered)).not.toContain('MatMulNBits')
      const [expected, got] = [await evaluate(graph, { x }), await evaluate(lowered, { x })]
      expect(largestDifference(expected.y, got.y)).toBeLessThan(2e-5)
    })
})

/** x -> layers.0.up -> Relu -> layers.0.down -> classifier (mean over positions) -> logits, as quantised models have it. */
function quantisedModel(): Graph {
  const up = packedLinear('layers.0.up', 'x', 'u', { bits: 4, rows: 24, columns: 32, block: 16 })
  const down = packedLinear('layers.0.down', 'r', 'd', {
    bits: 4,
    rows: 32,
    columns: 24,
    block: 16,
    zeros: true,
    bias: true
  })
  const named = (op: string, inputs: string[], output: string, module?: string, attributes = {}): SmallNode => ({
    op,
    in: inputs,
    out: [output],
    name: module === undefined ? `/${output}` : `/${module.replaceAll('.', '/')}/${op}`,
    attributes,
    ...(module === undefined ? {} : { module })
  })
  return smallGraph({
    inputs: { x: [2, 5, 32] },
    constants: [
      ...up.constants,
      ...down.constants,
      bytes('codes', [32, 32], 'int8'),
      scales('row scales', [32]),
      bytes('head codes', [32, 3], 'int8'),
      scales('column scales', [3]),
      {
        ...bytes('axis', [1]),
        type: 'int64',
        data: { kind: 'inline', bytes: new Uint8Array(BigInt64Array.of(1n).buffer) }
      }
    ],
    nodes: [
      up.node,
      named('Relu', ['u'], 'r'),
      down.node,
      named('DequantizeLinear', ['codes', 'row scales'], 'w', undefined, { axis: int(0) }),
      named('Transpose', ['w'], 'wt', undefined, { perm: { type: 'ints', value: [1, 0] } }),
      named('MatMul', ['d', 'wt'], 'm', 'layers.1.mix'),
      named('ReduceMean', ['m', 'axis'], 'p', undefined, { keepdims: int(0) }),
      named('DequantizeLinear', ['head codes', 'column scales'], 'h', undefined, { axis: int(1) }),
      named('MatMul', ['p', 'h'], 'logits', 'classifier')
    ],
    output: 'logits',
    opset: 21
  })
}

/** The same model with float weights: every DequantizeLinear (and crop of one) replaced by what it gives. */
async function floatModel(): Promise<Graph> {
  const { graph } = nameModel(quantisedModel())
  const makers = graph.nodes.filter(({ op }) => op === 'DequantizeLinear' || op === 'Slice')
  const names = makers.map(({ outputs }) => outputs[0] as string)
  const session = await createSession(writeModel({ ...graph, outputs: [] }, { untypedOutputs: names }))
  const values = await session.run({ x: float([2, 5, 32], wave) }, names)
  await session.release()
  const constants = names.map((name) => {
    const value = values[name]
    return floatConstant(name, Float32Array.from(value?.data ?? []), value?.shape ?? [])
  })
  const initializers = new Map([
    ...graph.initializers,
    ...constants.map((constant) => [constant.name, constant] as const)
  ])
  const kept = graph.nodes.filter((node) => !makers.includes(node))
  return {
    ...graph,
    nodes: kept.map((node) => (node.module === undefined ? node : { ...node, name: `/${node.module}/${node.op}` })),
    initializers
  }
}

async function step(graph: Graph, name: string) {
  const modelPath = join(folder, `${name}.onnx`)
  await writeFile(modelPath, writeModel(graph))
  const targets = ['up', 'down', 'mix', 'classifier']
  const peft = { method: 'lora', rank: 2, alpha: 3, targets, head: [], seed: 'quantised' } as const
  const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
  const model = await loadTrainableModel({ modelPath, task, peft }, { weightsDir: folder })
  const rng = seededRng('quantised test', 'parameters')
  const values = new Map(
    model.schema.entries
      .map(({ name, size }) => [name, size] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([entry, size]) => [entry, Float32Array.from({ length: size }, () => rng.uniform() - 0.5)])
  )
  const parameters = new Float32Array(model.schema.size)
  for (const { name, offset } of model.schema.entries) parameters.set(values.get(name) as Float32Array, offset)
  const { buildProgram, ...facts } = model
  const trainer = createLocalTrainer({ description: { ...facts, device: { used: 'cpu' } }, buildProgram })
  const x = float([2, 5, 32], wave)
  const batch = {
    inputs: { x: { ...x, type: 'float32', data: x.data as Float32Array } },
    labels: { shape: [2], data: Int32Array.of(2, 0) }
  } as const
  const { loss, gradients } = await trainer.step(parameters, batch)
  await trainer.close()
  const byName = model.schema.entries.map(
    ({ name, offset, size }) => [name, gradients.subarray(offset, offset + size)] as const
  )
  return { loss, gradients: new Map(byName) }
}

describe('a quantised base', () => {
  it('has its linear layers under their module paths, as Gemm on a dequantised matrix', async () => {
    const named = nameModel(quantisedModel())
    const linears = Array.from(named.weights.values()).filter(({ linear }) => linear !== undefined)
    expect(linears.map(({ name, linear }) => [name, linear])).toEqual([
      ['layers.0.up.weight', { inFeatures: 32, outFeatures: 24, outFirst: true }],
      ['layers.0.down.weight', { inFeatures: 24, outFeatures: 32, outFirst: true }],
      ['layers.1.mix.weight', { inFeatures: 32, outFeatures: 32, outFirst: true }],
      ['classifier.weight', { inFeatures: 32, outFeatures: 3, outFirst: false }]
    ])
    const graph = await canonicalise(named, { x: [2, 5, 32] })
    const gemms = graph.nodes.filter(({ op }) => op === 'Gemm')
    expect(gemms.map(({ inputs }) => inputs[1])).toEqual(linears.map(({ name }) => name))
    expect(opsOf(graph).filter((op) => op === 'MatMul' || op === 'Transpose')).toEqual([])
  })

  it('gives the gradients of the float model that it stands for', async () => {
    const expected = await step(await floatModel(), 'float')
    const got = await step(quantisedModel(), 'quantised')
    expect(Math.abs(got.loss - expected.loss)).toBeLessThan(1e-6)
    expect([...got.gradients.keys()].sort()).toEqual([...expected.gradients.keys()].sort())
    for (const [name, reference] of expected.gradients) {
      const scale = Math.max(...reference.map(Math.abs))
      const worst = Math.max(...reference.map((value, i) => Math.abs(value - (got.gradients.get(name)?.[i] as number))))
      expect(worst / scale, name).toBeLessThan(3e-6)
    }
  })

  it('is dequantised anew by every reader, in what the runtime makes of the graph too', async () => {
    const graph = await canonicalise(nameModel(quantisedModel()), { x: [2, 5, 32] })
    const [gemm] = graph.nodes.filter(({ op }) => op === 'Gemm')
    const again = {
      ...gemm,
      name: 'again',
      inputs: [gemm?.inputs[0], gemm?.inputs[1]],
      outputs: ['again']
    } as Graph['nodes'][number]
    const twice: Graph = {
      ...graph,
      nodes: [...graph.nodes, again],
      outputs: [...graph.outputs, { name: 'again', type: 'float32', shape: [10, 24] }]
    }
    const count = (some: Graph): number => opsOf(some).filter((op) => op === 'DequantizeLinear').length
    expect([count(twice), count(unshareDequantised(twice))]).toEqual([4, 5])
    const optimizedModelPath = join(folder, 'unshared.onnx')
    const session = await createSession(twice, { optimizedModelPath })
    await session.release()
    expect(count(parseModel(await readFile(optimizedModelPath)))).toBe(5)
  })
})
