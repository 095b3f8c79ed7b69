import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { loadTrainableModel } from '../../../src/node/model/program.js'
import type { Graph, Initializer, Node } from '../../../src/onnx/graph/graph.js'
import { parseModel } from '../../../src/onnx/file/read.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { LETTERS, MODEL } from '../../e2e/daemon-folder.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()

const glyphs = async (): Promise<Graph> => parseModel(await readFile(MODEL))

/** The model with something added to each of three images: no other batch than one of three goes through it. */
function forThree(graph: Graph): Graph {
  const image = graph.inputs[0]!.name
  const three: Initializer = {
    name: 'three',
    type: 'float32',
    shape: [3, 1, 1, 1],
    data: { kind: 'inline', bytes: new Uint8Array(Float32Array.of(0.5, 1, 2).buffer) }
  }
  const first: Node = {
    op: 'Add',
    domain: '',
    name: '/first',
    inputs: [image, 'three'],
    outputs: ['images'],
    attributes: {}
  }
  const read = (name: string): string => (name === image ? 'images' : name)
  const nodes = graph.nodes.map((one) => ({ ...one, inputs: one.inputs.map(read) }))
  return { ...graph, initializers: new Map([...graph.initializers, ['three', three]]), nodes: [first, ...nodes] }
}

const withoutDerivative = (graph: Graph): Graph => ({
  ...graph,
  nodes: graph.nodes.map((node) => (node.op === 'Softmax' ? { ...node, op: 'Hardmax' } : node))
})

/** Loads the model as `change` leaves it; `records` are what then lies in the cache of this test. */
async function load(name: string, change: (graph: Graph) => Graph) {
  const modelPath = await folder.write(`${name}.onnx`, writeModel(change(await glyphs())))
  const weightsDir = folder.at(name)
  const task = { kind: 'image-classification', labels: LETTERS } as const
  const peft = { method: 'lora', rank: 2, alpha: 4, targets: ['query'], head: ['classifier'], seed: 's' } as const
  const model = await loadTrainableModel({ modelPath, task, peft }, { weightsDir })
  const records = async () => (await readdir(weightsDir)).filter((file) => file.includes('.trains-'))
  return { model, records }
}

describe('that a method can be trained on a model', () => {
  it('is remembered by hash once the graph of a small batch was made', async () => {
    const { model, records } = await load('sound', (graph) => graph)
    await model.refuseUntrainable()
    expect(await records()).toEqual([expect.stringMatching(new RegExp(`^${model.modelSha256}\\.trains-[0-9a-f]{16}$`))])
  })

  it('is not where the small batch failed for reasons of its own: the model passes, as other batches may train', async () => {
    const { model, records } = await load('three', forThree)
    const [pixels] = model.inputs
    const shapeOf = (batch: number) => ({
      [pixels!.name]: pixels!.shape.map((dim, axis) => (axis === 0 ? batch : Number(dim))),
      labels: [batch]
    })
    await expect(model.buildProgram('train', shapeOf(2))).rejects.toMatchObject({
      code: expect.stringMatching(/^onnx\//)
    })
    expect((await model.buildProgram('train', shapeOf(3))).gradients.length).toBeGreaterThan(0)
    await model.refuseUntrainable()
    expect(await records()).toEqual([])
  })

  it('is not of one that is refused, each time', async () => {
    const { model, records } = await load('refused', withoutDerivative)
    for (const _ of [1, 2]) await expect(model.refuseUntrainable()).rejects.toMatchObject({ code: 'autodiff/no-rule' })
    expect(await records()).toEqual([])
  })
})
