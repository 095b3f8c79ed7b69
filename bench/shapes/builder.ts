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
 * Hugging Face names or, where the exporter turns them, anonymous [in, out] copies. Weights are places in a file.
 */
export interface Builder {
  /** Appends a node of module `path` (dotted) and returns its first output. */
  emit(op: string, path: string, inputs: readonly string[], attributes?: Attributes, outputs?: number): string
  /** A weight of the model in the weight file. */
  weight(name: string, shape: Shape): string
  /** The scale of a norm, all ones. */
  ones(name: string, size: number): string
  ints(values: readonly number[] | number): string
  float(value: number): string
  /** x W + b as MatMul and Add; W [inputs, outputs] anonymous. */
  linear(path: string, x: string, size: readonly [inputs: number, outputs: number], bias?: boolean): string
  layerNorm(path: string, x: string, size: number): string
  reshape(path: string, x: string, shape: readonly number[]): string
  transpose(path: string, x: string, perm: readonly number[]): string
  /** Bytes of the weight file. */
  weightBytes(): number
  finish(name: string, io: { readonly inputs: readonly ValueInfo[]; readonly output: ValueInfo }): Graph
}

const OPSET = 18

const attributeOf = (value: number | readonly number[] | Attribute): Attribute => {
  if (typeof value === 'number') return { type: 'int', value }
  return 'type' in value ? value : { type: 'ints', value }
}

export function createBuilder(): Builder {
  const nodes: Node[] = []
  const initializers = new Map<string, Initializer>()
  const counts = new Map<string, number>()
  let bytes = 0
  const add = (initializer: Initializer): string => {
    initializers.set(initializer.name, initializer)
    return initializer.name
  }
  const numbered = (name: string): string => {
    const count = counts.get(name) ?? 0
    counts.set(name, count + 1)
    return count === 0 ? name : `${name}_${count}`
  }

  const builder: Builder = {
    emit(op, path, inputs, attributes = {}, outputs = 1) {
      const name = numbered(`/${path.replaceAll('.', '/').replace(/\/(\d+)(?=\/|$)/g, '.$1')}/${op}`)
      const made = Array.from({ length: outputs }, (_, index) => `${name}_output_${index}`)
      const entries = Object.entries(attributes).map(([key, value]) => [key, attributeOf(value)] as const)
      nodes.push({ op, domain: '', name, inputs, outputs: made, attributes: Object.fromEntries(entries), module: path })
      return made[0] as string
    },
    weight(name, shape) {
      const length = 4 * shapeSize(shape)
      const data = { kind: 'external', location: WEIGHT_FILE, offset: bytes, length } as const
      bytes = Math.ceil((bytes + length) / ALIGNMENT) * ALIGNMENT
      return add({ name, type: 'float32', shape, data })
    },
    ones: (name, size) => add(floatConstant(name, new Float32Array(size).fill(1))),
    ints: (values) => add(intConstant(numbered('onnx::ints'), values)),
    float: (value) => add(floatConstant(numbered('onnx::float'), value)),
    linear(path, x, size, bias = true) {
      const product = builder.emit('MatMul', path, [x, builder.weight(numbered('onnx::MatMul'), size)])
      return bias ? builder.emit('Add', path, [builder.weight(`${path}.bias`, [size[1]]), product]) : product
    },
    layerNorm: (path, x, size) =>
      builder.emit(
        'LayerNormalization',
        path,
        [x, builder.ones(`${path}.weight`, size), builder.weight(`${path}.bias`, [size])],
        { axis: -1, epsilon: { type: 'float', value: 1e-5 } }
      ),
    reshape: (path, x, shape) => builder.emit('Reshape', path, [x, builder.ints(shape)]),
    transpose: (path, x, perm) => builder.emit('Transpose', path, [x], { perm }),
    weightBytes: () => bytes,
    finish: (name, { inputs, output }) => {
      const last = nodes.at(-1) as Node
      nodes[nodes.length - 1] = { ...last, outputs: [output.name] }
      const constants = Array.from(initializers.values(), ({ name, type, shape }): ValueInfo => ({ name, type, shape }))
      const values = new Map([...inputs, output, ...constants].map((info) => [info.name, info]))
      return { name, opsets: { '': OPSET }, inputs, outputs: [output], nodes, initializers, values }
    }
  }
  return builder
}

/** Token ids, mask and whatever else is int64[batch, sequence]. */
export const tokenInputs = (...names: readonly string[]): ValueInfo[] =>
  names.map((name) => ({ name, type: 'int64', shape: ['batch', 'sequence'] }))

/** Length of axis 1 of a graph input, as int64[1]. */
export function sequenceLength(b: Builder, path: string, input: string): string {
  const shape = b.emit('Shape', path, [input])
  return b.emit('Slice', path, [shape, b.ints([1]), b.ints([2]), b.ints([0])])
}

/** 0, 1, ..., length - 1 as int64[1, length]. */
export function positions(b: Builder, path: string, length: string): string {
  const scalar = b.emit('Squeeze', path, [length, b.ints([0])])
  const range = b.emit('Range', path, [b.ints(0), scalar, b.ints(1)])
  return b.emit('Unsqueeze', path, [range, b.ints([0])])
}
