import type { Attribute, Graph, Node, ValueInfo } from './graph.js'

/**
 * A graph as text, one line a node, for people and for tests: the same graph always gives the same text.
 *
 *     y: float32[2, 3] = Gemm(x, w, b) transB=1
 */
export function printGraph(graph: Graph): string {
  const opsets = Object.entries(graph.opsets).map(([domain, version]) => `${domain || 'onnx'} ${version}`)
  return [
    `graph ${graph.name} (${opsets.join(', ')})`,
    ...graph.inputs.map((input) => `input ${typed(input)}`),
    ...Array.from(graph.initializers.values(), (constant) => `const ${typed(constant)}`).sort(),
    ...graph.nodes.map((node) => printNode(node, graph)),
    `output ${graph.outputs.map(typed).join(', ')}`
  ].join('\n')
}

const typed = ({ name, type, shape }: Pick<ValueInfo, 'name' | 'type' | 'shape'>): string =>
  `${name}: ${type}[${shape.join(', ')}]`

function printNode(node: Node, graph: Graph): string {
  const outputs = node.outputs.map((name) => {
    const value = graph.values.get(name)
    return value === undefined ? name || '_' : typed(value)
  })
  const op = node.domain === '' ? node.op : `${node.domain}.${node.op}`
  const attributes = Object.entries(node.attributes).sort(([a], [b]) => (a < b ? -1 : 1))
  const suffix = attributes.map(([name, attribute]) => ` ${name}=${printAttribute(attribute)}`).join('')
  return `${outputs.join(', ')} = ${op}(${node.inputs.map((input) => input || '_').join(', ')})${suffix}`
}

function printAttribute(attribute: Attribute): string {
  if (attribute.type === 'tensor') return `${attribute.value.type}[${attribute.value.shape.join(', ')}]`
  return Array.isArray(attribute.value) ? `[${attribute.value.join(', ')}]` : String(attribute.value)
}
