import { readFile, rm, writeFile } from 'node:fs/promises'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { inspect as inspectCommand } from '../../src/cli/commands/inspect.js'
import { exitCodeOf, failureText } from '../../src/cli/failure.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import type { Graph, Initializer, Node } from '../../src/onnx/graph/graph.js'
import { type GraphProto, ModelProtoSchema, type NodeProto, NodeProtoSchema } from '../../src/onnx/graph/onnx_pb.js'
import { parseModel, readModel } from '../../src/onnx/file/read.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { writeWithExternalData } from '../conformance/external-weights.js'
import { MODEL } from './daemon-folder.js'
import { type Ended, expectSentence, type FederationSettings, refusalFolder } from './refused-start.js'

/** AttributeProto.AttributeType.GRAPH. */
const GRAPH_ATTRIBUTE = 5
const { file, writeFederation, start: startNode, left } = refusalFolder()

/** A node of a federation on the model at `model`, whatever that is. */
async function start(model: string, settings: Partial<FederationSettings> = {}): Promise<Ended> {
  const sha256 = await modelSha256(model).catch(() => 'ab'.repeat(32))
  await writeFederation({ sha256, ...settings })
  return startNode({ model })
}

/** `peertune inspect` without a process of its own: the command, and what the command line makes of an error. */
async function inspect(model: string): Promise<Ended> {
  const nothing = (): void => undefined
  const out = { line: nothing, part: nothing, text: nothing, json: nothing }
  try {
    await inspectCommand(model, { batch: '1', seq: '128' }, out)
    return { code: 0, stderr: '' }
  } catch (error) {
    return { code: exitCodeOf(error), stderr: failureText(error) }
  }
}

/** One sentence, exit code 2, nothing half-written, and no more in the data directory than the key of a node that nobody has heard of. */
async function expectRefusal(ended: Ended, pattern: RegExp): Promise<void> {
  expectSentence(ended, pattern)
  const files = await left()
  const halves = /\.tmp$|checkpoints\/.|run\.json$|lock/
  expect(files.filter((name) => halves.test(name))).toEqual([])
  expect(files.filter((name) => /^data[/\\](?!identity\.key$)/.test(name))).toEqual([])
}

const glyphs = async (): Promise<Graph> => parseModel(await readFile(MODEL))

async function writeGraph(change: (graph: Graph) => Graph): Promise<string> {
  await writeFile(file('model.onnx'), writeModel(change(await glyphs())))
  return file('model.onnx')
}

const withConstants = (graph: Graph, change: (constant: Initializer) => Initializer): Graph => ({
  ...graph,
  initializers: new Map(Array.from(graph.initializers, ([name, constant]) => [name, change(constant)]))
})

/** The glyph model with its weights in `model.onnx.data`, and one of them changed. */
async function writeExternal(change: Partial<{ location: string; offset: number; length: number }>): Promise<string> {
  await writeWithExternalData(MODEL, file('.'))
  const graph = await readModel(file('model.onnx'))
  let changed = false
  const model = withConstants(graph, (constant) => {
    if (changed || constant.data.kind !== 'external') return constant
    changed = true
    return { ...constant, data: { ...constant.data, ...change } }
  })
  await writeFile(file('model.onnx'), writeModel(model))
  return file('model.onnx')
}

async function writeProto(change: (graph: GraphProto) => void): Promise<string> {
  const model = fromBinary(ModelProtoSchema, await readFile(MODEL))
  change(model.graph as GraphProto)
  await writeFile(file('model.onnx'), toBinary(ModelProtoSchema, model))
  return file('model.onnx')
}

describe('a model that cannot be trained ends start and inspect with one sentence', () => {
  it('a truncated file', async () => {
    const bytes = await readFile(MODEL)
    await writeFile(file('model.onnx'), bytes.subarray(0, bytes.length / 2))
    const pattern = /model\.onnx is no ONNX model: it is truncated/
    await expectRefusal(await inspect(file('model.onnx')), pattern)
    await expectRefusal(await start(file('model.onnx')), pattern)
  })

  it('weights beside it that are missing', async () => {
    const model = await writeExternal({})
    await rm(file('model.onnx.data'))
    const pattern = /model\.onnx.*model\.onnx\.data cannot be/
    await expectRefusal(await inspect(model), pattern)
    await expectRefusal(await start(model), pattern)
  })

  it('weights beside it that are shorter than declared', async () => {
    const model = await writeExternal({})
    const bytes = await readFile(file('model.onnx.data'))
    await writeFile(file('model.onnx.data'), bytes.subarray(0, bytes.length - 4))
    const pattern = /model\.onnx\.data: \S+: expected \d+ bytes from byte \d+ on, the file has \d+/
    await expectRefusal(await inspect(model), pattern)
    await expectRefusal(await start(model), pattern)
  })

  it('weights at an offset outside the file, or of another length than their shape', async () => {
    const outside = await writeExternal({ offset: 1e9 })
    await expectRefusal(await inspect(outside), /model\.onnx\.data: \S+: expected \d+ bytes from byte 1000000000 on/)
    const short = await writeExternal({ length: 4 })
    await expectRefusal(await inspect(short), /model\.onnx\.data: \S+ is declared with 4 bytes, its shape .* takes \d+/)
  })

  it('weights outside its folder', async () => {
    const model = await writeExternal({ location: '../../etc/passwd' })
    const pattern = /model\.onnx: expected weights beside the model, got \.\.\/\.\.\/etc\/passwd/
    await expectRefusal(await inspect(model), pattern)
    await expectRefusal(await start(model), pattern)
  })

  it('a weight that is not a number', async () => {
    let changed = false
    const model = await writeGraph((graph) =>
      withConstants(graph, (constant) => {
        if (changed || !constant.name.endsWith('query.bias') || constant.data.kind !== 'inline') return constant
        changed = true
        const bytes = Uint8Array.from(constant.data.bytes)
        new DataView(bytes.buffer).setFloat32(4, Number.NaN, true)
        return { ...constant, data: { kind: 'inline', bytes } }
      })
    )
    const pattern = /model\.onnx: weight \S*query\.bias: expected finite numbers, got NaN/
    await expectRefusal(await inspect(model), pattern)
    await expectRefusal(await start(model), pattern)
  })

  it('an input whose number of axes nobody knows', async () => {
    const model = await writeProto(({ input: [first] }) => {
      if (first?.type?.value.case === 'tensorType') delete first.type.value.value.shape
    })
    await expectRefusal(await inspect(model), /model\.onnx has an input without a shape.*expected: pixel_values/)
  })

  it('a value whose shape depends on the data', async () => {
    const model = await writeGraph((graph) => {
      const node = (op: string, inputs: string[], output: string, attributes: Node['attributes'] = {}): Node => ({
        ...{ op, domain: '', name: `/odd/${op}`, inputs, outputs: [output], attributes }
      })
      const odd = [
        node('NonZero', ['pixel_values'], 'places'),
        node('Cast', ['places'], 'numbers', { to: { type: 'int', value: 1 } }),
        node('ReduceMax', ['numbers'], 'largest', { keepdims: { type: 'int', value: 0 } }),
        node('Add', ['raw', 'largest'], 'logits')
      ]
      const raw = (name: string): string => (name === 'logits' ? 'raw' : name)
      const nodes = graph.nodes.map((one) => ({ ...one, outputs: one.outputs.map(raw) }))
      return { ...graph, nodes: [...nodes, ...odd] }
    })
    await expectRefusal(
      await inspect(model),
      /model\.onnx: NonZero \/odd\/NonZero.*expected a shape that the inputs' shapes decide/
    )
  })

  it.each([
    ['a branch', 'If', 'then_branch'],
    ['a loop', 'Loop', 'body']
  ])('%s on the way to the logits', async (_, opType, name) => {
    const model = await writeProto(({ node }) => {
      const last = node.find(({ output }) => output.includes('logits')) as NodeProto
      last.output[0] = 'raw'
      const attribute = [{ name, type: GRAPH_ATTRIBUTE }]
      node.push(create(NodeProtoSchema, { opType, name: '/turn', input: ['raw'], output: ['logits'], attribute }))
    })
    const pattern = new RegExp(`model\\.onnx has .*${name}.*${opType} /turn`)
    await expectRefusal(await inspect(model), pattern)
    await expectRefusal(await start(model), pattern)
  })

  it('an operator without a derivative', async () => {
    const model = await writeGraph((graph) => ({
      ...graph,
      nodes: graph.nodes.map((node) => (node.op === 'Softmax' ? { ...node, op: 'Hardmax' } : node))
    }))
    await expectRefusal(await start(model), /model\.onnx: no derivative is known for Hardmax \(node .*attention/)
  })

  it('labels that do not fit its logits', async () => {
    const model = await writeGraph((graph) => graph)
    const ended = await start(model, { labels: ['A', 'B', 'C', 'D'], head: [] })
    await expectRefusal(ended, /model\.onnx: logits of shape \[2, \d+\]: expected 4 classes, one for each label/)
  })
})
