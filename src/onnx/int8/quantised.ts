import { PeertuneError } from '../../base/errors.js'
import type { Graph, Initializer, Node } from '../graph/graph.js'
import { numberOf, unsupported } from '../graph/lowering.js'
import { sameTensor } from '../graph/same-tensor.js'
import type { NamedWeights, Weight } from '../graph/weight.js'

/** First opset whose DequantizeLinear knows blocks and four bits. */
const BLOCKED_OPSET = 21

/**
 * com.microsoft MatMulNBits (4 or 8 bits a weight, scaled by block) as DequantizeLinear and a product with its transpose.
 * The packed bytes stay where they are and what they are: both operators read them in the same order.
 */
export function lowerMatMulNBits(graph: Graph): Graph {
  const isQuantised = ({ op, domain }: Node): boolean => op === 'MatMulNBits' && domain === 'com.microsoft'
  if (!graph.nodes.some(isQuantised)) return graph
  const initializers = new Map(graph.initializers)
  const nodes = graph.nodes.flatMap((node) => (isQuantised(node) ? spellOut(node, initializers) : [node]))
  const opsets = { ...graph.opsets, '': Math.max(graph.opsets[''] ?? 0, BLOCKED_OPSET) }
  const values = new Map(graph.values)
  for (const { name, type, shape } of initializers.values()) values.set(name, { name, type, shape })
  return { ...graph, opsets, nodes, initializers, values }
}

interface Blocks {
  readonly bits: number
  readonly rows: number
  readonly perRow: number
}

function spellOut(node: Node, initializers: Map<string, Initializer>): Node[] {
  const [x = '', packed = '', scales = '', zeros = '', order = '', bias = ''] = node.inputs
  const [y = ''] = node.outputs
  const bits = numberOf(node, 'bits', 4)
  const [rows, columns, size] = [numberOf(node, 'N', 0), numberOf(node, 'K', 0), numberOf(node, 'block_size', 32)]
  if (bits !== 4 && bits !== 8) throw unsupported(node, `${bits} bits`)
  if (order !== '') throw unsupported(node, 'reordered groups')
  const blocks: Blocks = { bits, rows, perRow: Math.ceil(columns / size) }
  const held = (name: string): Initializer => {
    const constant = initializers.get(name)
    if (constant === undefined) throw unsupported(node, `${name}, which is computed`)
    return constant
  }
  const add = (constant: Initializer): string => {
    initializers.set(constant.name, constant)
    return constant.name
  }
  const type = bits === 4 ? 'uint4' : 'uint8'
  const wide = blocks.perRow * size
  const codes = add({ ...held(packed), name: `${packed}.codes`, type, shape: [rows, wide] })
  const scale = add({ ...held(scales), name: `${scales}.blocks`, shape: [rows, blocks.perRow] })
  const zero = add(zeros === '' ? middle(blocks) : unpadded(held(zeros), blocks, node))
  const part = (op: string, inputs: readonly string[], output: string, attributes: Node['attributes'] = {}): Node => ({
    ...node,
    op,
    domain: '',
    inputs,
    outputs: [output],
    attributes
  })
  const weight = `${y}.weight`
  const whole = wide === columns ? weight : `${weight}.padded`
  const product = bias === '' ? y : `${y}.product`
  return [
    part('DequantizeLinear', [codes, scale, zero], whole, {
      axis: { type: 'int', value: 1 },
      block_size: { type: 'int', value: size }
    }),
    ...(wide === columns ? [] : [cropped(node, { from: whole, to: weight, columns }, add)]),
    part('Transpose', [weight], `${weight}.transposed`, { perm: { type: 'ints', value: [1, 0] } }),
    part('MatMul', [x, `${weight}.transposed`], product),
    ...(bias === '' ? [] : [part('Add', [product, bias], y)])
  ]
}

interface Crop {
  readonly from: string
  readonly to: string
  readonly columns: number
}

/** The last block of a row may reach beyond it. */
function cropped(node: Node, { from, to, columns }: Crop, add: (constant: Initializer) => string): Node {
  const ints = (hint: string, value: number): string => {
    const bytes = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)
    return add({ name: `crop.${hint}.${value}`, type: 'int64', shape: [1], data: { kind: 'inline', bytes } })
  }
  const inputs = [from, ints('start', 0), ints('end', columns), ints('axis', 1)]
  return { ...node, op: 'Slice', domain: '', inputs, outputs: [to], attributes: {} }
}

/** Zero points at the middle of the range, one constant for all weights of the same blocks. */
function middle({ bits, rows, perRow }: Blocks): Initializer {
  const bytes = new Uint8Array(Math.ceil((rows * perRow * bits) / 8)).fill(bits === 4 ? 0x88 : 0x80)
  const type = bits === 4 ? 'uint4' : 'uint8'
  return { name: `zero.${type}.${rows}.${perRow}`, type, shape: [rows, perRow], data: { kind: 'inline', bytes } }
}

/** MatMulNBits starts every row of zero points at a new byte, a tensor does not. */
function unpadded(zeros: Initializer, { bits, rows, perRow }: Blocks, node: Node): Initializer {
  if (zeros.type !== 'uint8') throw unsupported(node, `zero points of type ${zeros.type}`)
  const name = `${zeros.name}.blocks`
  const type = bits === 4 ? 'uint4' : 'uint8'
  if (bits === 8 || perRow % 2 === 0) return { ...zeros, name, type, shape: [rows, perRow] }
  if (zeros.data.kind !== 'inline')
    throw unsupported(node, 'zero points in a file, with an odd number of blocks in a row')
  const source = zeros.data.bytes
  const stride = Math.ceil(perRow / 2)
  const nibble = (row: number, block: number): number =>
    ((source[row * stride + (block >> 1)] as number) >> (4 * (block & 1))) & 0xf
  const bytes = new Uint8Array(Math.ceil((rows * perRow) / 2))
  for (let i = 0; i < rows * perRow; i++)
    bytes[i >> 1] = (bytes[i >> 1] as number) | (nibble(Math.floor(i / perRow), i % perRow) << (4 * (i & 1)))
  return { name, type, shape: [rows, perRow], data: { kind: 'inline', bytes } }
}

interface DequantisedUse {
  /** The float matrix [first, second]. */
  readonly value: string
  readonly module: string
  readonly outFirst: boolean
  readonly shape: readonly number[]
  readonly initializer: Initializer
}

/** Every linear layer whose weight comes out of DequantizeLinear. */
export function dequantisedUses(graph: Graph): DequantisedUse[] {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  return graph.nodes.flatMap((node) => {
    const { op, domain, module = '' } = node
    if ((op !== 'MatMul' && op !== 'Gemm') || domain !== '' || module === '') return []
    const source = sourceOf(node, producers, graph)
    return source === undefined ? [] : [{ ...source, module }]
  })
}

/**
 * Gives the float matrices that come out of DequantizeLinear the names of the layers that multiply by them, as nameWeights
 * does for constants: a linear layer can be adapted whatever its weight is made of.
 */
export function nameDequantised({ graph, weights }: NamedWeights, prefix: string): NamedWeights {
  const renamed = new Map<string, string>()
  const found = new Map<string, Weight>()
  for (const { value, outFirst, shape, initializer, ...use } of dequantisedUses(graph)) {
    const module = use.module.slice(prefix.length)
    const name = `${module}.weight`
    const known = found.get(name)
    if (renamed.has(value) || weights.has(name)) continue
    // A layer that is called again has the same weight, written out once more.
    if (known !== undefined && !sameTensor(known.initializer, initializer)) continue
    renamed.set(value, name)
    if (known !== undefined) continue
    const [first = 0, second = 0] = shape
    const [inFeatures, outFeatures] = outFirst ? [second, first] : [first, second]
    const linear = { inFeatures, outFeatures, outFirst }
    found.set(name, { name, module, slot: 'weight', transposed: !outFirst, initializer, linear })
  }
  if (found.size === 0) return { graph, weights }
  const rename = (value: string): string => renamed.get(value) ?? value
  const made = new Set<string>()
  const nodes = graph.nodes.flatMap((node) => {
    const outputs = node.outputs.map(rename)
    if (outputs.some((output) => made.has(output))) return []
    for (const output of outputs) if (found.has(output)) made.add(output)
    return { ...node, inputs: node.inputs.map(rename), outputs }
  })
  return { graph: { ...graph, nodes }, weights: new Map([...weights, ...found]) }
}

/** The dequantised matrix behind the second operand, perhaps cropped, perhaps transposed. */
function sourceOf(node: Node, producers: ReadonlyMap<string, Node>, graph: Graph) {
  let value = node.inputs[1] ?? ''
  let outFirst = node.attributes.transB?.value === 1
  const transpose = producers.get(value)
  if (transpose?.op === 'Transpose') {
    value = transpose.inputs[0] as string
    outFirst = !outFirst
  }
  const crop = producers.get(value)
  const dequantise = crop?.op === 'Slice' ? producers.get(crop.inputs[0] as string) : crop
  const initializer = graph.initializers.get(
    dequantise?.op === 'DequantizeLinear' ? (dequantise.inputs[0] as string) : ''
  )
  if (initializer?.shape.length !== 2) return undefined
  const [rows = 0, columns = 0] = initializer.shape
  const end = crop?.op === 'Slice' ? croppedColumns(crop, graph) : columns
  return { value, outFirst, initializer, shape: [rows, end] }
}

const croppedColumns = (crop: Node, graph: Graph): number => {
  const end = graph.initializers.get(crop.inputs[2] ?? '')
  if (end?.data.kind === 'inline') return Number(new BigInt64Array(new Uint8Array(end.data.bytes).buffer)[0])
  throw new PeertuneError('onnx/unsupported-feature', `weight ${crop.name} is cropped by a computed bound`, {
    facts: { node: crop.name }
  })
}

/** Whether a node makes a float weight from a quantised constant. */
export const isDequantised = (node: Node | undefined, isConstant: (value: string) => boolean): node is Node =>
  node?.op === 'DequantizeLinear' &&
  node.domain === '' &&
  node.inputs.every((input) => input === '' || isConstant(input))

/** What quantised constants are multiples of: a number there is as good as a number of the weight. */
export const scalesOf = ({ nodes, initializers }: Graph): Pick<Weight, 'name' | 'initializer'>[] =>
  nodes.flatMap(({ op, inputs, outputs, module }) => {
    const initializer = initializers.get(inputs[1] ?? '')
    if (op !== 'DequantizeLinear' || initializer === undefined) return []
    return { name: `${module === undefined ? outputs[0] : `${module}.weight`}, scale`, initializer }
  })

/**
 * Makes one again of the copies of a DequantizeLinear that the runtime gives to every reader of a weight, under the name
 * that is in `names`.
 */
export function shareDequantised(graph: Graph, names: ReadonlySet<string>): Graph {
  const isConstant = (value: string): boolean => graph.initializers.has(value)
  const chosen = new Map<string, string>()
  const keyOf = ({ inputs, attributes }: Node): string => JSON.stringify([inputs, attributes])
  for (const node of graph.nodes) {
    const [output = ''] = node.outputs
    const key = keyOf(node)
    if (isDequantised(node, isConstant) && (names.has(output) || !chosen.has(key))) chosen.set(key, output)
  }
  if (chosen.size === 0) return graph
  const replaced = new Map<string, string>()
  const made = new Set<string>()
  const nodes = graph.nodes.flatMap((node): Node[] => {
    const name = isDequantised(node, isConstant) ? chosen.get(keyOf(node)) : undefined
    if (name === undefined) return [{ ...node, inputs: node.inputs.map((input) => replaced.get(input) ?? input) }]
    replaced.set(node.outputs[0] as string, name)
    if (made.has(name)) return []
    made.add(name)
    return [{ ...node, outputs: [name] }]
  })
  return { ...graph, nodes }
}

/**
 * Gives every reader of a dequantised weight its own DequantizeLinear: shared, the float matrices of the whole model would
 * lie in memory from the forward pass until their turn in the backward pass.
 */
export function unshareDequantised(graph: Graph): Graph {
  const isConstant = (value: string): boolean => graph.initializers.has(value)
  const makers = new Map<string, Node>()
  for (const node of graph.nodes) if (isDequantised(node, isConstant)) makers.set(node.outputs[0] as string, node)
  if (makers.size === 0) return graph
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const values = new Map(graph.values)
  let serial = 0
  const nodes = graph.nodes.flatMap((node): Node[] => {
    const [made = ''] = node.outputs
    if (makers.get(made) === node) return outputs.has(made) ? [node] : []
    const copies: Node[] = []
    const inputs = node.inputs.map((input) => {
      const maker = makers.get(input)
      if (maker === undefined) return input
      const output = `${input}.copy_${serial++}`
      copies.push({ ...maker, name: output, outputs: [output] })
      const info = values.get(input)
      if (info !== undefined) values.set(output, { ...info, name: output })
      return output
    })
    return copies.length === 0 ? [node] : [...copies, { ...node, inputs }]
  })
  return { ...graph, nodes, values }
}
