import { PeertuneError } from '../base/errors.js'
import { createConstantPool, floatConstant, intConstant } from '../onnx/graph/constant.js'
import { plainNode } from '../onnx/graph/plain-node.js'
import { pruneGraph } from '../onnx/graph/rewrite.js'
import type { Attribute, ElementType, Graph, Initializer, Node, ValueInfo } from '../onnx/graph/graph.js'
import type { Shape } from '../tensor/schema.js'

/** Type and static shape of an output about to be emitted. */
export interface TensorType {
  readonly type: ElementType
  readonly shape: Shape
}

export interface EmitNode {
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly TensorType[]
  readonly attributes?: Readonly<Record<string, Attribute>>
}

/**
 * Appends nodes to a graph. Names are fresh, equal constants are one initializer, and every new value's type and shape
 * is recorded. The graph it started from is not touched.
 */
export interface Emitter {
  /** Opset version of the standard domain. */
  readonly opset: number
  /** Throws `autodiff/no-shape` if the value has no type or a symbolic dimension. */
  typeOf(value: string): TensorType
  /** The node that makes `value`, in its present form. */
  producerOf(value: string): Node | undefined
  /** The constant behind `value`, if it is one. */
  initializerOf(value: string): Initializer | undefined
  /** Appends one standard-domain node and returns its outputs' names. */
  emit(node: EmitNode): string[]
  /** Makes an optional output of an existing node present and returns its name. */
  requestOutput(node: Node, index: number, type: TensorType): string
  /** The same tensor under a name of the caller's choice. */
  alias(value: string, name: string): string
  ints(values: readonly number[]): string
  /** A floating-point scalar of element type `type`. */
  scalar(value: number, type: ElementType): string
  /** The graph so far with these outputs: nodes and constants that none of them needs are left out. */
  finish(outputs: readonly string[]): Graph
}

/** `prefix` starts every fresh name; two emitters may work on one graph in turn. */
export function createEmitter(graph: Graph, prefix = 'ad'): Emitter {
  const values = new Map(graph.values)
  for (const info of [...graph.inputs, ...graph.initializers.values()]) {
    const { name, type, shape } = info
    if (!values.has(name)) values.set(name, { name, type, shape })
  }
  const initializers = new Map(graph.initializers)
  const nodes = [...graph.nodes]
  const indexByOutput = new Map<string, number>()
  for (const [index, node] of nodes.entries()) for (const output of node.outputs) indexByOutput.set(output, index)
  let serial = 0

  const fresh = (hint: string): string => {
    let name: string
    do name = `${prefix}.${hint}.${serial++}`
    while (values.has(name) || indexByOutput.has(name))
    return name
  }
  const declare = (hint: string, { type, shape }: TensorType): string => {
    const name = fresh(hint)
    values.set(name, { name, type, shape })
    return name
  }
  const constant = createConstantPool({ initializers, values, fresh })

  return {
    opset: graph.opsets[''] ?? 0,
    typeOf: (value) => staticType(value, values.get(value)),
    producerOf: (value) => nodes[indexByOutput.get(value) ?? -1],
    initializerOf: (value) => initializers.get(value),
    emit({ op, inputs, outputs, attributes = {} }) {
      const names = outputs.map((output) => declare(op, output))
      for (const name of names) indexByOutput.set(name, nodes.length)
      nodes.push({ op, domain: '', name: names[0] ?? op, inputs, outputs: names, attributes })
      return names
    },
    requestOutput(node, index, type) {
      const at = indexByOutput.get(node.outputs[0] ?? '') ?? -1
      const present = nodes[at]
      if (present === undefined)
        throw new PeertuneError('autodiff/unknown-node', `node ${node.name} is not in the graph`, {
          facts: { name: node.name, op: node.op }
        })
      const known = present.outputs[index]
      if (known !== undefined && known !== '') return known
      const outputs = Array.from({ length: Math.max(index + 1, present.outputs.length) }, (_, i) => {
        return i === index ? declare(node.op, type) : (present.outputs[i] ?? '')
      })
      nodes[at] = { ...present, outputs }
      const name = outputs[index] ?? ''
      indexByOutput.set(name, at)
      return name
    },
    alias(value, name) {
      const { type, shape } = staticType(value, values.get(value))
      values.set(name, { name, type, shape })
      indexByOutput.set(name, nodes.length)
      nodes.push(plainNode('Identity', [value], name))
      return name
    },
    ints: (list) => constant(`int64[] ${list.join()}`, (name) => intConstant(name, list)),
    scalar: (value, type) =>
      constant(`${type} ${Object.is(value, -0) ? '-0' : value}`, (name) => scalarInitializer(name, value, type)),
    finish(outputs) {
      const infos = outputs.map((name) => ({ name, ...staticType(name, values.get(name)) }))
      return pruneGraph({ ...graph, nodes, initializers, values, outputs: infos })
    }
  }
}

function staticType(value: string, info: ValueInfo | undefined): TensorType {
  if (info?.shape.every((dim) => typeof dim === 'number')) return { type: info.type, shape: info.shape as Shape }
  throw new PeertuneError('autodiff/no-shape', `value ${value} has no static shape`, {
    facts: { value, shape: info?.shape ?? [] },
    hint: 'specialise the graph to one batch shape before differentiating it'
  })
}

function scalarInitializer(name: string, value: number, type: ElementType): Initializer {
  if (type === 'float32') return floatConstant(name, value)
  if (type === 'float64') {
    const bytes = new Uint8Array(Float64Array.of(value).buffer)
    return { name, type, shape: [], data: { kind: 'inline', bytes } }
  }
  if (type === 'int64') return intConstant(name, value)
  throw new PeertuneError('autodiff/unsupported-type', `cannot make a ${type} constant`, { facts: { type, value } })
}
