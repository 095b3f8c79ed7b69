import { fromHalf } from '../../tensor/half.js'
import { dataTypeOf } from '../graph/element-type.js'
import type { Attribute, ElementType, Graph, Initializer, Node, ValueInfo } from '../graph/graph.js'

/**
 * A float16 model as a float32 one: inputs, outputs, casts and the constants in memory. Weights in a file beside the
 * model stay as they are until shareWeights copies them. On a CPU, products of float16 are slow where they exist at all,
 * and gradients in it would lose the small ones; the values themselves are exact in float32.
 */
export function widenHalf(graph: Graph): Graph {
  const hasHalf = (infos: Iterable<Pick<ValueInfo, 'type'>>): boolean =>
    Array.from(infos).some(({ type }) => type === 'float16')
  if (!hasHalf(graph.initializers.values()) && !hasHalf(graph.inputs) && !hasHalf(graph.outputs)) return graph
  const values = Array.from(graph.values.values(), widened)
  return {
    ...graph,
    inputs: graph.inputs.map(widened),
    outputs: graph.outputs.map(widened),
    nodes: graph.nodes.map(widenNode),
    initializers: new Map(
      Array.from(graph.initializers.values(), (constant) => [constant.name, widenInline(constant)])
    ),
    values: new Map(values.map((value) => [value.name, value]))
  }
}

const wide = (type: ElementType): ElementType => (type === 'float16' ? 'float32' : type)

const widened = <T extends Pick<ValueInfo, 'type'>>(info: T): T => ({ ...info, type: wide(info.type) })

function widenNode(node: Node): Node {
  const attributes = Object.entries(node.attributes).map(([name, attribute]): [string, Attribute] => {
    if (attribute.type === 'tensor') return [name, { type: 'tensor', value: widenInline(attribute.value) }]
    const isHalfType = name === 'to' && node.op === 'Cast' && attribute.value === dataTypeOf('float16')
    return [name, isHalfType ? { type: 'int', value: dataTypeOf('float32') } : attribute]
  })
  return { ...node, attributes: Object.fromEntries(attributes) }
}

function widenInline(constant: Initializer): Initializer {
  if (constant.type !== 'float16' || constant.data.kind !== 'inline') return constant
  return { ...constant, type: 'float32', data: { kind: 'inline', bytes: widenBytes(constant.data.bytes) } }
}

let table: Float32Array | undefined

/** Every binary16 as float32: looked up, as a model has billions of them. */
const halves = (): Float32Array => {
  table ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => fromHalf(bits))
  return table
}

/** Little-endian binary16 -> little-endian binary32. */
export function widenBytes(bytes: Uint8Array): Uint8Array {
  const values = halves()
  const result = new Float32Array(bytes.length / 2)
  for (let i = 0; i < result.length; i++)
    result[i] = values[(bytes[2 * i] as number) | ((bytes[2 * i + 1] as number) << 8)] as number
  return new Uint8Array(result.buffer)
}
