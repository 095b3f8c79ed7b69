import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import { type Shape, shapeSize } from '../../tensor/schema.js'
import { bytesOfElements } from '../graph/element-type.js'
import type { Graph, Initializer, Node, ValueInfo } from '../graph/graph.js'
import { shareDequantised } from '../int8/quantised.js'
import { parseModel } from '../file/read.js'
import { pruneGraph, staticShape } from '../graph/rewrite.js'
import { createSession } from '../runtime/session.js'
import { writeModel } from '../file/write.js'

/** Constants above this many bytes are kept out of the graph that the runtime folds, as it would copy them. */
const SKELETON_CONSTANT_BYTES = 64 * 1024

/** What moves transposes and quantisation about: a dequantised weight would lose its name and its layout. */
const QUANTISED_REWRITES = ['TransposeOptimizer', 'QDQPropagationTransformer']

/**
 * Makes every dimension a number and lets onnxruntime fold what has become constant: shape arithmetic, masks, position
 * ids, rotary tables. Weights take part as graph inputs, so they are neither read nor folded; they are back as
 * initializers in the result, in which every value has a type and a static shape.
 *
 * @param inputs concrete shape of every graph input.
 * @param weights names of initializers to leave alone.
 */
export async function specialise(
  graph: Graph,
  inputs: Readonly<Record<string, Shape>>,
  weights: ReadonlySet<string>
): Promise<Graph> {
  const held = Array.from(graph.initializers.values()).filter((initializer) => isHeld(initializer, weights))
  const skeleton = detach({ ...graph, inputs: graph.inputs.map((input) => concrete(input, inputs)) }, held)
  const folded = withModules(shareDequantised(await foldByRuntime(skeleton), weights), graph)
  return attachHeld(await inferTypes(folded), graph, held)
}

/** The runtime keeps the names of nodes, or at least of what they make, but not the exporter's notes on them. */
function withModules(folded: Graph, original: Graph): Graph {
  const modules = new Map<string, string>()
  for (const { name, outputs, module } of original.nodes)
    if (module !== undefined) for (const key of [`node ${name}`, ...outputs]) modules.set(key, module)
  const moduleOf = ({ name, outputs }: Node): string | undefined =>
    modules.get(`node ${name}`) ?? outputs.map((output) => modules.get(output)).find((found) => found !== undefined)
  const nodes = folded.nodes.map((node): Node => {
    const module = node.module ?? moduleOf(node)
    return module === undefined ? node : { ...node, module }
  })
  return { ...folded, nodes }
}

const isHeld = (initializer: Initializer, weights: ReadonlySet<string>): boolean =>
  weights.has(initializer.name) ||
  initializer.data.kind === 'external' ||
  bytesOfElements(initializer.type, shapeSize(initializer.shape)) > SKELETON_CONSTANT_BYTES

function concrete(input: ValueInfo, shapes: Readonly<Record<string, Shape>>): ValueInfo {
  const shape = shapes[input.name]
  const fits = shape?.length === input.shape.length
  if (shape !== undefined && fits && input.shape.every((dim, axis) => typeof dim === 'string' || dim === shape[axis]))
    return { ...input, shape }
  throw new PeertuneError('onnx/input-shape', `the model's input ${input.name} does not take this batch`, {
    facts: { input: input.name, expected: input.shape, got: shape ?? 'nothing' },
    hint: 'the data must fill every input of the model, in the shape the model was exported for'
  })
}

function detach(graph: Graph, held: readonly Initializer[]): Graph {
  const names = new Set(held.map(({ name }) => name))
  const inputs = [...graph.inputs, ...held.map(({ name, type, shape }) => ({ name, type, shape }))]
  const initializers = new Map([...graph.initializers].filter(([name]) => !names.has(name)))
  // Output types are left to the runtime: the exporter's symbolic ones contradict the concrete inputs.
  return { ...graph, inputs, initializers }
}

async function foldByRuntime(graph: Graph): Promise<Graph> {
  const directory = await mkdtemp(join(tmpdir(), 'peertune-'))
  try {
    const optimizedModelPath = join(directory, 'folded.onnx')
    const outputNames = graph.outputs.map(({ name }) => name)
    const bytes = writeModel({ ...graph, outputs: [] }, { untypedOutputs: outputNames })
    const withoutRewrites = graph.nodes.some(({ op }) => op === 'DequantizeLinear') ? QUANTISED_REWRITES : []
    const session = await createSession(bytes, { optimization: 'basic', optimizedModelPath, withoutRewrites })
    await session.release()
    return withUsedOpsets(parseModel(await readFile(optimizedModelPath), graph.name))
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The runtime lists every domain it knows. */
function withUsedOpsets(graph: Graph): Graph {
  const used = new Set(['', ...graph.nodes.map(({ domain }) => domain)])
  return { ...graph, opsets: Object.fromEntries(Object.entries(graph.opsets).filter(([domain]) => used.has(domain))) }
}

/**
 * Asks the runtime for type and shape of every value, by making each an output. Initializers in `weights` take part by
 * shape alone. Throws `onnx/no-shape`, naming the first node whose result has a shape that the inputs' do not decide.
 */
export async function inferTypes(graph: Graph, weights: ReadonlySet<string> = new Set()): Promise<Graph> {
  const produced = graph.nodes.flatMap((node) => node.outputs.filter((output) => output !== ''))
  const held = Array.from(graph.initializers.values()).filter((initializer) => isHeld(initializer, weights))
  const bytes = writeModel({ ...detach(graph, held), outputs: [] }, { untypedOutputs: produced })
  const session = await createSession(bytes, { optimization: 'disabled' })
  try {
    const known = new Map(
      [...graph.inputs, ...graph.initializers.values(), ...session.outputs].map((value) => [value.name, value])
    )
    const values = new Map(
      Array.from(known.values(), ({ name, type, shape }) => [name, { name, type, shape: staticShape({ shape }, name) }])
    )
    return { ...graph, outputs: graph.outputs.map((output) => values.get(output.name) ?? output), values }
  } catch (error) {
    throw isPeertuneError(error) && error.code === 'onnx/no-shape' ? namingNode(error, graph) : error
  } finally {
    await session.release()
  }
}

function namingNode(error: PeertuneError, { nodes }: Graph): PeertuneError {
  const { value } = error.facts
  const node = nodes.find(({ outputs }) => outputs.includes(String(value)))
  if (node === undefined) return error
  const where = `${node.op} ${node.name}${node.module ? ` in ${node.module}` : ''}`
  return new PeertuneError(
    error.code,
    `${where}: expected a shape that the inputs' shapes decide, got one that does not`,
    {
      facts: { ...error.facts, node: node.name, op: node.op, ...(node.module ? { module: node.module } : {}) },
      hint: 'export the model without operators whose result has as many elements as the data say (NonZero, Unique, ...)',
      cause: error
    }
  )
}

function attachHeld(graph: Graph, original: Graph, held: readonly Initializer[]): Graph {
  const inputNames = new Set(original.inputs.map(({ name }) => name))
  const initializers = new Map([...graph.initializers, ...held.map((h) => [h.name, h] as const)])
  return pruneGraph({ ...graph, inputs: graph.inputs.filter(({ name }) => inputNames.has(name)), initializers })
}
