import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { floatConstant, floatValues, intConstant, intValues } from '../../../src/onnx/graph/constant.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { type ModelProto, ModelProtoSchema } from '../../../src/onnx/graph/onnx_pb.js'
import { parseModel, readModel } from '../../../src/onnx/file/read.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { smallGraph } from '../small-graph.js'

const graph = smallGraph({
  inputs: { x: [2, 3] },
  constants: [floatConstant('w', [1, 2, 3, 4, 5, 6], [3, 2]), intConstant('axes', [-1, 0])],
  nodes: [
    {
      op: 'Gemm',
      in: ['x', 'w', ''],
      out: ['y'],
      attributes: {
        transB: { type: 'int', value: -3 },
        alpha: { type: 'float', value: 0.5 },
        name: { type: 'string', value: 'grüße' },
        ints: { type: 'ints', value: [1, -2] },
        floats: { type: 'floats', value: [0.25, 3] },
        strings: { type: 'strings', value: ['a', ''] },
        value: { type: 'tensor', value: floatConstant('t', [7]) }
      }
    }
  ],
  output: 'y'
})

const proto = (changes: (model: ModelProto) => void): Uint8Array => {
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: 'ai.onnx', version: 17n }],
    graph: { node: [{ opType: 'Relu', name: '/encoder/layer.0/act/Relu', input: ['x'], output: ['y'] }] }
  })
  changes(model)
  return toBinary(ModelProtoSchema, model)
}

describe('a written graph', () => {
  it('reads back the same', () => {
    const read = parseModel(writeModel(graph))
    expect(read.nodes).toEqual(graph.nodes)
    expect(read.inputs).toEqual(graph.inputs)
    expect(read.opsets).toEqual({ '': 20 })
    expect(Array.from(read.initializers.values(), ({ name, shape }) => [name, shape])).toEqual([
      ['w', [3, 2]],
      ['axes', [2]]
    ])
    expect(floatValues(read.initializers.get('w') as never)).toEqual([1, 2, 3, 4, 5, 6])
    expect(intValues(read.initializers.get('axes') as never)).toEqual([-1, 0])
  })

  it('keeps references to external data and symbolic dimensions', () => {
    const data = { kind: 'external', location: 'w.bin', offset: 4096, length: 24 } as const
    const symbolic: Graph = {
      ...graph,
      inputs: [{ name: 'x', type: 'int64', shape: ['batch', 3] }],
      initializers: new Map([['w', { name: 'w', type: 'float32', shape: [3, 2], data }]])
    }
    const read = parseModel(writeModel(symbolic))
    expect(read.initializers.get('w')?.data).toEqual(data)
    expect(read.inputs).toEqual(symbolic.inputs)
  })
})

describe('reading a model', () => {
  it('takes the module path from a TorchScript node name and a dynamo node’s metadata', () => {
    const scopes = "['', 'bert', 'bert.pooler', 'bert.pooler.dense', 'linear_3']"
    const bytes = proto(({ graph }) => {
      const metadataProps = [{ key: 'pkg.torch.onnx.name_scopes', value: scopes }]
      graph?.node.push(
        create(ModelProtoSchema, { graph: { node: [{ opType: 'Gemm', metadataProps }] } }).graph?.node[0] as never
      )
    })
    expect(parseModel(bytes).nodes.map(({ module }) => module)).toEqual(['encoder.layer.0.act', 'bert.pooler.dense'])
  })

  it('packs the typed fields of tensors without raw data', () => {
    const bytes = proto(({ graph }) => {
      const tensors = [
        { name: 'f', dataType: 1, dims: [2n], floatData: [0.5, -3] },
        { name: 'i', dataType: 7, dims: [1n, 2n], int64Data: [-1n, 5n] },
        { name: 'b', dataType: 9, dims: [3n], int32Data: [1, 0, 1] },
        { name: 'd', dataType: 11, dims: [], doubleData: [2.25] },
        { name: 'h', dataType: 10, dims: [2n], int32Data: [0x3c00, 0xc000] }
      ]
      graph?.initializer.push(
        ...(create(ModelProtoSchema, { graph: { initializer: tensors } }).graph?.initializer ?? [])
      )
    })
    const { initializers } = parseModel(bytes)
    expect(floatValues(initializers.get('f') as never)).toEqual([0.5, -3])
    expect(intValues(initializers.get('i') as never)).toEqual([-1, 5])
    expect(intValues(initializers.get('b') as never)).toEqual([1, 0, 1])
    expect(floatValues(initializers.get('d') as never)).toEqual([2.25])
    expect(initializers.get('h')?.data).toEqual({ kind: 'inline', bytes: Uint8Array.of(0, 0x3c, 0, 0xc0) })
  })

  it.each([
    ['model-local functions', { functions: [{ name: 'swiglu' }] }, /functions: swiglu/],
    ['sparse initializers', { graph: { node: [{}], sparseInitializer: [{ dims: [2n] }] } }, /sparse/],
    [
      'subgraphs',
      { graph: { node: [{ opType: 'Loop', name: 'l', attribute: [{ name: 'body', type: 5 }] }] } },
      /body.*Loop l/
    ]
  ])('refuses %s by name', (_what, parts, message) => {
    const bytes = toBinary(
      ModelProtoSchema,
      create(ModelProtoSchema, { opsetImport: [{ version: 17n }], graph: { node: [{ opType: 'Relu' }] }, ...parts })
    )
    expect(() => parseModel(bytes, 'm.onnx')).toThrowError(message)
    expect(() => parseModel(bytes, 'm.onnx')).toThrowError(
      expect.objectContaining({ code: 'onnx/unsupported-feature' })
    )
  })

  it('refuses a tensor whose bytes do not fit its shape', () => {
    const bytes = proto(({ graph }) => {
      const tensors = [{ name: 'w', dataType: 1, dims: [3n], rawData: new Uint8Array(8) }]
      graph?.initializer.push(
        ...(create(ModelProtoSchema, { graph: { initializer: tensors } }).graph?.initializer ?? [])
      )
    })
    expect(() => parseModel(bytes, 'm.onnx')).toThrowError(/m\.onnx: tensor w has 8 bytes/)
  })
})

describe('a file that is no model', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'peertune-read-'))
  })
  afterAll(() => rm(directory, { recursive: true }))

  it.each([
    ['empty.onnx', new Uint8Array()],
    ['text.onnx', new TextEncoder().encode('once upon a time there was a model\n')],
    ['truncated.onnx', writeModel(graph).subarray(0, 60)],
    ['random.onnx', Uint8Array.from({ length: 500 }, (_, i) => (i * 197 + 31) % 256)]
  ])('%s is refused by name', async (name, bytes) => {
    await writeFile(join(directory, name), bytes)
    await expect(readModel(join(directory, name))).rejects.toMatchObject({
      code: 'onnx/not-a-model',
      facts: { file: name }
    })
  })

  it('a missing file is refused by path', async () => {
    const path = join(directory, 'nothing.onnx')
    await expect(readModel(path)).rejects.toMatchObject({ code: 'onnx/not-a-model', facts: { file: path } })
  })
})
