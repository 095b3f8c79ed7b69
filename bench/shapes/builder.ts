import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../src/onnx/graph/graph.js'
import { type Shape, shapeSize } from '../../src/tensor/schema.js'

/** File beside the model that its weights lie in. */
export const WEIGHT_FILE = 'model.onnx.data'
/** Bytes. A page: what memory mapping asks of offsets. */
const ALIGNMENT = 4096

/** Values of the attributes that these graphs use: whole numbers are `int`, lists `ints`, the rest says what it is. */
type Attributes = Readonly<Record<string, number | readonly number[] | Attribute>>

/**
 * Writes a forward graph as PyTorch's TorchScript exporter leaves one: nodes named by module path, weights under their
 * Hugging Face names or, where the exporter turns them, anonymous [in, out] copies. Weights are places in a file. What is
 * added belongs to one module of the model.
 */
export interface Builder {
  /** The same graph, for what belongs to a module inside this one; dotted. */
  at(module: string): Builder
  /** Appends a node and returns its first output. */
  emit(op: string, inputs: readonly string[], attributes?: Attributes): string
  split(x: string, sizes: readonly number[], axis: number): string[]
  /** A weight of this module in the weight file. */
  weight(name: string, shape: Shape): string
  /** The scale of a norm, all ones. */
  ones(name: string, size: number): string
  ints(values: readonly number[] | number): string
  float(value: number): string
  /** x W + b as MatMul and Add; W [inputs, outputs] anonymous. */
  linear(x: string, size: readonly [inputs: number, outputs: number], bias?: boolean): string
  layerNorm(x: string, size: number): string
  reshape(x: string, shape: readonly number[]): string
  transpose(x: string, perm: readonly number[]): string
}

/** The whole of it, outside of all modules. */
export interface GraphBuilder extends Builder {
  /** Bytes of the weight file. */
  weightBytes(): number
  finish(name: string, io: { readonly inputs: readonly ValueInfo[]; readonly output: ValueInfo }): Graph
}

const OPSET = 18

const attributeOf = (value: number | readonly number[] | Attribute): Attribute => {
  if (typeof value === 'number') return { type: 'int', value }
  return 'type' in value ? value : { type: 'ints', value }
}

interface Draft {
  readonly nodes: Node[]
  readonly initializers: Map<string, Initializer>
  /** How often a name was asked for. */
  readonly counts: Map<string, number>
  weightBytes: number
}

export function createBuilder(): GraphBuilder {
  const draft: Draft = { nodes: [], initializers: new Map(), counts: new Map(), weightBytes: 0 }
  return {
    ...moduleBuilder(draft, ''),
    weightBytes: () => draft.weightBytes,
    finish: (name, { inputs, output }) => {
      const { nodes, initializers } = draft
      const last = nodes.at(-1) as Node
      nodes[nodes.length - 1] = { ...last, outputs: [output.name] }
      const constants = Array.from(initializers.values(), ({ name, type, shape }): ValueInfo => ({ name, type, shape }))
      const values = new Map([...inputs, output, ...constants].map((info) => [info.name, info]))
      return { name, opsets: { '': OPSET }, inputs, outputs: [output], nodes, initializers, values }
    }
  }
}

function add({ initializers }: Draft, initializer: Initializer): string {
  initializers.set(initializer.name, initializer)
  return initializer.name
}

function numbered({ counts }: Draft, name: string): string {
  const count = counts.get(name) ?? 0
  counts.set(name, count + 1)
  return count === 0 ? name : `${name}_${count}`
}

function addWeight(draft: Draft, name: string, shape: Shape): string {
  const [offset, length] = [draft.weightBytes, 4 * shapeSize(shape)]
  draft.weightBytes = Math.ceil((offset + length) / ALIGNMENT) * ALIGNMENT
  return add(draft, { name, type: 'float32', shape, data: { kind: 'external', location: WEIGHT_FILE, offset, length } })
}

const inside = (module: string, name: string): string => (module === '' ? name : `${module}.${name}`)

function moduleBuilder(draft: Draft, module: string): Builder {
  const append = (node: Pick<Node, 'op' | 'inputs'> & { outputs: number; attributes: Attributes }): string[] => {
    const { op, inputs } = node
    const name = numbered(draft, `/${module.replaceAll('.', '/').replace(/\/(\d+)(?=\/|$)/g, '.$1')}/${op}`)
    const outputs = Array.from({ length: node.outputs }, (_, index) => `${name}_output_${index}`)
    const entries = Object.entries(node.attributes).map(([key, value]) => [key, attributeOf(value)] as const)
    draft.nodes.push({ op, domain: '', name, inputs, outputs, attributes: Object.fromEntries(entries), module })
    return outputs
  }
  const builder: Builder = {
    at: (name) => moduleBuilder(draft, inside(module, name)),
    emit: (op, inputs, attributes = {}) => append({ op, inputs, attributes, outputs: 1 })[0] as string,
    split: (x, sizes, axis) =>
      append({ op: 'Split', inputs: [x, builder.ints(sizes)], attributes: { axis }, outputs: sizes.length }),
    weight: (name, shape) => addWeight(draft, inside(module, name), shape),
    ones: (name, size) => add(draft, floatConstant(inside(module, name), new Float32Array(size).fill(1))),
    ints: (values) => add(draft, intConstant(numbered(draft, 'onnx::ints'), values)),
    float: (value) => add(draft, floatConstant(numbered(draft, 'onnx::float'), value)),
    linear(x, size, bias = true) {
      const product = builder.emit('MatMul', [x, addWeight(draft, numbered(draft, 'onnx::MatMul'), size)])
      return bias ? builder.emit('Add', [builder.weight('bias', [size[1]]), product]) : product
    },
    layerNorm: (x, size) =>
      builder.emit('LayerNormalization', [x, builder.ones('weight', size), builder.weight('bias', [size])], {
        axis: -1,
        epsilon: { type: 'float', value: 1e-5 }
      }),
    reshape: (x, shape) => builder.emit('Reshape', [x, builder.ints(shape)]),
    transpose: (x, perm) => builder.emit('Transpose', [x], { perm })
  }
  return builder
}

/** Token ids, mask and whatever else is int64[batch, sequence]. */
export const tokenInputs = (...names: readonly string[]): ValueInfo[] =>
  names.map((name) => ({ name, type: 'int64', shape: ['batch', 'sequence'] }))

/** Length of axis 1 of a graph input, as int64[1]. */
export function sequenceLength(b: Builder, input: string): string {
  const shape = b.emit('Shape', [input])
  return b.emit('Slice', [shape, b.ints([1]), b.ints([2]), b.ints([0])])
}

/** 0, 1, ..., length - 1 as int64[1, length]. */
export function positions(b: Builder, length: string): string {
  const scalar = b.emit('Squeeze', [length, b.ints([0])])
  const range = b.emit('Range', [b.ints(0), scalar, b.ints(1)])
  return b.emit('Unsqueeze', [range, b.ints([0])])
}
