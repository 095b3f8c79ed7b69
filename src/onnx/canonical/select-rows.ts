import { type Shape, shapeSize } from '../../tensor/schema.js'
import { intConstant } from '../graph/constant.js'
import type { Graph, Initializer, Node, ValueInfo } from '../graph/graph.js'
import { plainNode } from '../graph/plain-node.js'
import { pruneGraph, staticShape } from '../graph/rewrite.js'

/**
 * Rows of which only some are read are computed only where they are read. Of a classifier's last layer that is the
 * pooled position; of a language model's head, and of everything in its last layer behind the attention, the labelled
 * ones. Selections (Gather of rows) move against the flow of data through nodes that treat every row alike, products
 * with a weight first of all. Works on canonical graphs (canonicalise.ts), adapters included.
 */

/** Ops that map each element, or each row with the others' help in its last axis alone. */
const ELEMENTWISE: ReadonlySet<string> = new Set(
  'Abs Add Cast Cos Div Erf Exp FastGelu Gelu Identity Log Max Min Mul Neg Pow QuickGelu Reciprocal Relu Sigmoid Sin Sqrt Sub Tanh'.split(
    ' '
  )
)
const LAST_AXIS: ReadonlySet<string> = new Set(['LayerNormalization', 'SimplifiedLayerNormalization', 'Softmax'])

interface Selection {
  /** The Gather. */
  readonly node: Node
  /** What it reads from. */
  readonly data: string
  /** Rows of `data` seen as a matrix. */
  readonly rows: number
  /** int64[count] value with the rows to keep, or the rows themselves. */
  readonly index: string | readonly number[]
  readonly count: number
}

/** Moves every selection of rows as far up as it goes. A graph without any is returned as it is. */
export function hoistRowSelections(graph: Graph): Graph {
  let result = graph
  for (const node of graph.nodes) {
    const selection = selectionOf(node, result)
    if (selection !== undefined) result = hoist(result, selection)
  }
  return result
}

/**
 * Output [..., classes] -> [count, classes], its rows those named by the new int64[count] input `rows`. The rows of the
 * padding may name any row.
 */
export function selectOutputRows(graph: Graph, { output, rows, count }: OutputRows): Graph {
  const info = graph.values.get(output)
  const shape = staticShape(info, output)
  const classes = shape.at(-1) ?? 1
  const whole = `${output}.all`
  const matrix = `${output}.matrix`
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((input) => (input === output ? whole : input)),
    outputs: node.outputs.map((name) => (name === output ? whole : name))
  }))
  const type = info?.type ?? 'float32'
  const added: ValueInfo[] = [
    { name: whole, type, shape },
    { name: matrix, type, shape: [shapeSize(shape) / classes, classes] },
    { name: output, type, shape: [count, classes] },
    { name: rows, type: 'int64', shape: [count] }
  ]
  const target = intConstant(`${matrix}.shape`, [-1, classes])
  const byName = new Map(added.map((value) => [value.name, value]))
  return {
    ...graph,
    inputs: [...graph.inputs, added[3] as ValueInfo],
    outputs: graph.outputs.map((value) => byName.get(value.name) ?? value),
    nodes: [
      ...nodes,
      plainNode('Reshape', [whole, target.name], matrix),
      { ...plainNode('Gather', [matrix, rows], output), attributes: { axis: { type: 'int', value: 0 } } }
    ],
    initializers: new Map([...graph.initializers, [target.name, target]]),
    values: new Map([...graph.values, ...byName, [target.name, { name: target.name, type: 'int64', shape: [2] }]])
  }
}

export interface OutputRows {
  readonly output: string
  /** Name of the graph input to add. */
  readonly rows: string
  readonly count: number
}

/** A Gather of rows of a matrix by a vector, or of one position of [batch, sequence, width] by a constant. */
function selectionOf(node: Node, graph: Graph): Selection | undefined {
  if (node.op !== 'Gather' || node.domain !== '') return undefined
  const [data = '', indices = ''] = node.inputs
  const shape = graph.values.get(data)?.shape as Shape | undefined
  const axis = Number(node.attributes.axis?.value ?? 0)
  if (shape === undefined || graph.initializers.has(data) || graph.inputs.some(({ name }) => name === data))
    return undefined
  if (axis === 0 && shape.length === 2) {
    const [count, ...others] = (graph.values.get(indices)?.shape ?? []) as Shape
    if (count === undefined || others.length > 0 || count >= (shape[0] as number)) return undefined
    return { node, data, rows: shape[0] as number, index: indices, count }
  }
  const position = axis === 1 && shape.length === 3 ? positionOf(indices, graph) : undefined
  if (position === undefined) return undefined
  const [batch = 0, sequence = 0] = shape
  if (sequence < 2) return undefined
  const at = position < 0 ? position + sequence : position
  const index = Array.from({ length: batch }, (_, row) => row * sequence + at)
  return { node, data, rows: batch * sequence, index, count: batch }
}

function positionOf(indices: string, graph: Graph): number | undefined {
  const constant = graph.initializers.get(indices)
  if (constant?.type !== 'int64' || constant.shape.length > 0 || constant.data.kind !== 'inline') return undefined
  const { bytes } = constant.data
  return Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigInt64(0, true))
}

/** The nodes between where the selection ends up and where it was, from below upwards. */
function regionAbove({ node, rows }: Selection, graph: Graph): ReadonlySet<Node> {
  const readers = new Map<string, Node[]>()
  for (const each of graph.nodes)
    for (const input of each.inputs) {
      const known = readers.get(input)
      if (known === undefined) readers.set(input, [each])
      else known.push(each)
    }
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const region = new Set<Node>([node])
  for (const each of graph.nodes.toReversed()) {
    const [output = ''] = each.outputs
    const readBelow = readers.get(output)
    if (outputs.has(output) || readBelow === undefined || !readBelow.every((reader) => region.has(reader))) continue
    if (!readBelow.every((reader) => readsOnlyRows(reader, output, { rows, graph }))) continue
    if (rowInputs(each, rows, graph).length > 0) region.add(each)
  }
  return region
}

/** Whether a node reads `value` row by row and in no other way: x x^T reads it whole, too. */
const readsOnlyRows = (reader: Node, value: string, { rows, graph }: { rows: number; graph: Graph }): boolean => {
  const times = (inputs: readonly string[]): number => inputs.filter((input) => input === value).length
  return times(reader.inputs) === times(rowInputs(reader, rows, graph))
}

/** Inputs of which row i of the output needs row i alone; empty where the node mixes rows. */
function rowInputs(node: Node, rows: number, graph: Graph): readonly string[] {
  const shape = (name: string | undefined): Shape => (graph.values.get(name ?? '')?.shape ?? []) as Shape
  const isRows = (name: string): boolean => shape(name).length > 1 && shapeSize(shape(name).slice(0, -1)) === rows
  const [a = '', b = '', c = ''] = node.inputs
  const [output = '', ...others] = node.outputs
  if (node.op === 'Gather') return [a]
  if (others.some((other) => other !== '') || !isRows(output)) return []
  const rank = shape(output).length
  if ((node.op === 'Gemm' || node.op === 'MatMul') && (a === b || c === b)) return []
  if (node.op === 'Gemm' && Number(node.attributes.transA?.value ?? 0) === 0)
    return shape(c).length === 2 && shape(c)[0] === rows ? [a, c] : [a]
  if (node.op === 'MatMul' && shape(b).length === 2 && isRows(a)) return [a]
  if (node.op === 'Reshape') return isRows(a) && shape(a).at(-1) === shape(output).at(-1) ? [a] : []
  if (LAST_AXIS.has(node.op)) {
    const axis = Number(node.attributes.axis?.value ?? -1)
    return axis === -1 || axis === rank - 1 ? [a] : []
  }
  if (!ELEMENTWISE.has(node.op)) return []
  const given = node.inputs.filter((input) => input !== '')
  const whole = given.filter((input) => shapeSize(shape(input)) === shapeSize(shape(output)) && isRows(input))
  const rest = given.filter((input) => !whole.includes(input))
  return rest.every((input) => shapeSize(shape(input).slice(0, -1)) === 1) ? whole : []
}

/** The graph with a selection made as far below as rows allow. */
function hoist(graph: Graph, selection: Selection): Graph {
  const { node, rows, count } = selection
  const region = regionAbove(selection, graph)
  if (region.size === 1) return graph
  const rewriting = startHoist(graph, selection, region)
  const { nodes, values, initializers, made } = rewriting
  for (const each of graph.nodes) {
    if (!region.has(each)) {
      nodes.push(each)
      continue
    }
    const wanted = rowInputs(each, rows, graph)
    const [output = ''] = each.outputs
    const { shape, ...info } = graph.values.get(output) as ValueInfo
    if (each === node) nodes.push(restored(selected(wanted[0] as string, rewriting), shape as Shape, rewriting))
    else if (each.op === 'Reshape') made.set(output, selected(wanted[0] as string, rewriting))
    else {
      nodes.push(onRows(each, wanted, rewriting))
      values.set(output, { ...info, shape: [count, shape.at(-1) as number] })
      made.set(output, output)
    }
  }
  return pruneGraph({ ...graph, nodes, initializers, values })
}

/** A graph that is being written anew, its selection further down. */
interface Hoist {
  readonly selection: Selection
  readonly nodes: Node[]
  readonly values: Map<string, ValueInfo>
  readonly initializers: Map<string, Initializer>
  /** What stands for a value, as [count, width]. */
  readonly made: Map<string, string>
  /** Results of the nodes that selected rows go through. */
  readonly gathered: ReadonlySet<string>
  /** The value that holds the indices of the rows. */
  readonly index: string
  /** Keeps new names apart from those of other selections. */
  readonly base: string
}

function startHoist(graph: Graph, selection: Selection, region: ReadonlySet<Node>): Hoist {
  const { node, index } = selection
  const base = node.outputs[0] as string
  const values = new Map(graph.values)
  const initializers = new Map(graph.initializers)
  return {
    selection,
    nodes: [],
    values,
    initializers,
    made: new Map(),
    gathered: new Set(Array.from(region).flatMap((each) => (each === node ? [] : each.outputs))),
    index: typeof index === 'string' ? index : constant(`${base}.rows`, [...index], { values, initializers }),
    base
  }
}

function constant(
  name: string,
  list: readonly number[],
  { values, initializers }: Pick<Hoist, 'values' | 'initializers'>
): string {
  const initializer = intConstant(name, list)
  initializers.set(name, initializer)
  values.set(name, { name, type: 'int64', shape: initializer.shape })
  return name
}

/** A row input as [count, width]. */
function selected(value: string, rewriting: Hoist): string {
  const { selection, nodes, values, made, gathered, index, base } = rewriting
  const { rows, count } = selection
  const known = made.get(value)
  if (gathered.has(value) || known !== undefined) return known ?? value
  const info = values.get(value) as ValueInfo
  const width = info.shape.at(-1) as number
  let matrix = value
  if (info.shape.length !== 2) {
    matrix = `${value}.matrix.${base}`
    values.set(matrix, { ...info, name: matrix, shape: [rows, width] })
    nodes.push(plainNode('Reshape', [value, constant(`${matrix}.shape`, [rows, width], rewriting)], matrix))
  }
  const name = `${value}.selected.${base}`
  values.set(name, { ...info, name, shape: [count, width] })
  nodes.push({ ...plainNode('Gather', [matrix, index], name), attributes: { axis: { type: 'int', value: 0 } } })
  made.set(value, name)
  return name
}

/** An operand that all rows share broadcasts from the right, so its leading ones do no harm on a matrix: rank 3 does. */
function flat(input: string, rewriting: Hoist): string {
  const { nodes, values, base } = rewriting
  const info = values.get(input)
  if (info === undefined || info.shape.length <= 2) return input
  const name = `${input}.row.${base}`
  const width = info.shape.at(-1) as number
  if (!values.has(name)) {
    values.set(name, { ...info, name, shape: [width] })
    nodes.push(plainNode('Reshape', [input, constant(`${name}.shape`, [width], rewriting)], name))
  }
  return name
}

/** The node on selected rows: what it wants by rows is selected, the rest is shared. */
function onRows(node: Node, wanted: readonly string[], rewriting: Hoist): Node {
  const inputs = node.inputs.map((input) =>
    wanted.includes(input) ? selected(input, rewriting) : flat(input, rewriting)
  )
  if (!LAST_AXIS.has(node.op)) return { ...node, inputs }
  return { ...node, inputs, attributes: { ...node.attributes, axis: { type: 'int', value: -1 } } }
}

/** Under the name and in the shape that the Gather gave. */
const restored = (value: string, shape: Shape, rewriting: Hoist): Node =>
  plainNode('Reshape', [value, constant(`${rewriting.base}.shape`, shape, rewriting)], rewriting.base)
