import { floatConstant } from '../graph/constant.js'
import type { Graph, Initializer, Node } from '../graph/graph.js'
import { pruneGraph } from '../graph/rewrite.js'
import type { NamedWeights } from '../graph/weight.js'

export type QuantiseBits = 4 | 8

export interface QuantiseOptions {
  readonly bits: QuantiseBits
  /** Weights in a row that share a scale. A power of two of at least 16, as MatMulNBits asks. */
  readonly blockSize?: number
  /** Last segments of module paths whose weights stay as they are. */
  readonly keep?: readonly string[]
  /** Values of a float32 weight in the graph's own layout. */
  readonly read: (initializer: Initializer) => Float32Array
}

export interface QuantisedModel {
  readonly graph: Graph
  readonly layers: readonly QuantisedLayer[]
}

export interface QuantisedLayer {
  readonly module: string
  /** Root of the mean square error over the root of the mean square weight. */
  readonly relativeError: number
}

/** Heads decide between classes by small differences, and are a small part of most models. */
const KEPT_MODULES: readonly string[] = ['lm_head', 'classifier', 'score']

/**
 * Weight-only quantisation of linear layers to com.microsoft MatMulNBits: codes uint8[out, blocks, blockSize * bits / 8]
 * and one scale per block, weight = scale * (code - 2^(bits - 1)). Of each block the weight farthest from zero gets the
 * lowest code, which has no counterpart above (llama.cpp's Q4_0). Biases, norms and embeddings stay float.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
 */
export function quantiseLinears({ graph, weights }: NamedWeights, options: QuantiseOptions): QuantisedModel {
  const { keep = KEPT_MODULES } = options
  const initializers = new Map(graph.initializers)
  const layers: QuantisedLayer[] = []
  const tables = new Set(graph.nodes.flatMap(({ op, inputs }) => (op === 'Gather' ? (inputs[0] ?? []) : [])))
  const made = new Map<string, Codes>()
  const nodes = graph.nodes.flatMap((node) => {
    const matrix = matrixOf(node, graph)
    const weight = matrix === undefined ? undefined : weights.get(matrix.name)
    if (matrix === undefined || weight === undefined || tables.has(matrix.name)) return [node]
    if (keep.some((name) => weight.module === name || weight.module.endsWith(`.${name}`))) return [node]
    const known = made.get(matrix.name)
    const codes = known ?? encode(matrix, options)
    if (known === undefined) {
      made.set(matrix.name, codes)
      for (const constant of [codes.packed, codes.scales]) initializers.set(constant.name, constant)
      layers.push({ module: weight.module, relativeError: codes.relativeError })
    }
    return replaced(node, codes, { ...options, module: weight.module })
  })
  const opsets = { ...graph.opsets, 'com.microsoft': 1 }
  return { graph: pruneGraph(withValues({ ...graph, opsets, nodes: nodes.map(named), initializers })), layers }
}

interface Matrix {
  readonly name: string
  readonly initializer: Initializer
  /** It lies as [out, in]. */
  readonly outFirst: boolean
}

/** The constant matrix that a node multiplies by, perhaps through a Transpose. */
function matrixOf({ op, domain, inputs, attributes }: Node, graph: Graph): Matrix | undefined {
  if (domain !== '' || (op !== 'MatMul' && op !== 'Gemm')) return undefined
  const number = (name: string, fallback: number): number => Number(attributes[name]?.value ?? fallback)
  if (number('transA', 0) !== 0 || number('alpha', 1) !== 1 || number('beta', 1) !== 1) return undefined
  const flipped = number('transB', 0) === 1
  const [, value = ''] = inputs
  const source = graph.nodes.find(({ outputs }) => outputs[0] === value)
  const name = source?.op === 'Transpose' ? (source.inputs[0] ?? '') : value
  const initializer = graph.initializers.get(name)
  if (initializer?.type !== 'float32' || initializer.shape.length !== 2) return undefined
  return { name, initializer, outFirst: flipped !== (name !== value) }
}

interface Codes {
  readonly packed: Initializer
  readonly scales: Initializer
  readonly rows: number
  readonly columns: number
  readonly relativeError: number
}

const DEFAULT_BLOCK_SIZE = 32

function encode(
  { name, initializer, outFirst }: Matrix,
  { bits, blockSize = DEFAULT_BLOCK_SIZE, read }: QuantiseOptions
): Codes {
  const [first = 0, second = 0] = initializer.shape
  const [rows, columns] = outFirst ? [first, second] : [second, first]
  const values = read(initializer)
  const at = (row: number, column: number): number =>
    values[outFirst ? row * columns + column : column * rows + row] as number
  const perRow = Math.ceil(columns / blockSize)
  const blocks = packBlocks(rows * perRow, bits, {
    blockSize,
    valuesOf: (block) => blockOf(Math.floor(block / perRow), (block % perRow) * blockSize, { at, columns, blockSize })
  })
  return {
    packed: {
      name: `${name}.packed`,
      type: 'uint8',
      shape: [rows, perRow, (blockSize * bits) / 8],
      data: { kind: 'inline', bytes: blocks.packed }
    },
    scales: floatConstant(`${name}.scales`, blocks.scales, [rows * perRow]),
    rows,
    columns,
    relativeError: blocks.relativeError
  }
}

interface Reading {
  readonly at: (row: number, column: number) => number
  readonly columns: number
  readonly blockSize: number
}

const blockOf = (row: number, start: number, { at, columns, blockSize }: Reading): number[] =>
  Array.from({ length: Math.min(blockSize, columns - start) }, (_, i) => at(row, start + i))

interface Blocks {
  readonly blockSize: number
  /** The values of one; fewer than `blockSize` at the end of a row, where zeros follow. */
  valuesOf(block: number): readonly number[]
}

/** Codes and scales of so many blocks, 4-bit codes two to a byte. */
function packBlocks(count: number, bits: number, { blockSize, valuesOf }: Blocks) {
  const middle = 2 ** (bits - 1)
  const packed = new Uint8Array((count * blockSize * bits) / 8)
  const scales = new Float32Array(count)
  let [error, power] = [0, 0]
  for (let block = 0; block < count; block++) {
    const values = valuesOf(block)
    const scale = scaleOf(values, middle)
    scales[block] = scale
    for (let i = 0; i < blockSize; i++) {
      const value = values[i] ?? 0
      const code = scale === 0 ? middle : Math.min(2 * middle - 1, Math.max(0, Math.round(value / scale) + middle))
      const place = block * blockSize + i
      if (bits === 8) packed[place] = code
      else packed[place >> 1] = (packed[place >> 1] as number) | (code << (4 * (place & 1)))
      error += (scale * (code - middle) - value) ** 2
      power += value ** 2
    }
  }
  return { packed, scales, relativeError: power === 0 ? 0 : Math.sqrt(error / power) }
}

/** The value farthest from zero gets code 0, so its scale carries the opposite sign. In float32, as it will be read. */
function scaleOf(block: readonly number[], middle: number): number {
  const extreme = block.reduce((far, value) => (Math.abs(value) > Math.abs(far) ? value : far), 0)
  return Math.fround(extreme / -middle)
}

interface Replacing extends QuantiseOptions {
  readonly module: string
}

function replaced(node: Node, codes: Codes, { bits, blockSize = DEFAULT_BLOCK_SIZE, module }: Replacing): Node[] {
  const [x = '', , bias = ''] = node.inputs
  const [y = ''] = node.outputs
  const product = bias === '' ? y : `${y}.product`
  const attributes = Object.fromEntries(
    Object.entries({ K: codes.columns, N: codes.rows, bits, block_size: blockSize }).map(
      ([name, value]) => [name, { type: 'int', value }] as const
    )
  )
  const inputs = [x, codes.packed.name, codes.scales.name]
  const quantised: Node = {
    ...node,
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    inputs,
    outputs: [product],
    attributes,
    module
  }
  if (bias === '') return [quantised]
  return [quantised, { ...node, op: 'Add', inputs: [product, bias], outputs: [y], attributes: {}, module }]
}

/** Files keep names but not module paths: the path goes into the name, as PyTorch's TorchScript exporter has it. */
const named = (node: Node, index: number): Node =>
  node.module === undefined || node.module === ''
    ? { ...node, name: `${node.op}_${index}` }
    : { ...node, name: `/${node.module.replaceAll('.', '/')}/${node.op}_${index}` }

function withValues(graph: Graph): Graph {
  const values = new Map(graph.values)
  for (const { name, type, shape } of graph.initializers.values()) values.set(name, { name, type, shape })
  return { ...graph, values }
}
