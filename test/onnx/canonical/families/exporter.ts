import { seededRng } from '../../../../src/base/rng.js'
import { boolConstant, floatConstant, intConstant } from '../../../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../../../src/onnx/graph/graph.js'

export const int = (value: number): Attribute => ({ type: 'int', value })
export const ints = (...value: number[]): Attribute => ({ type: 'ints', value })
export const real = (value: number): Attribute => ({ type: 'float', value })

/** Number of an element type in ONNX, for Cast. */
export const TO = { float: int(1), int64: int(7), bool: int(9) }

export interface LinearOptions {
  readonly bias?: boolean
  /** Input of rank 2, which exporters write as Gemm with the weight as PyTorch has it. */
  readonly matrix?: boolean
}

/** Where a linear layer's weight is among the initializers; [in, out], as TorchScript folds it, or [out, in]. */
export interface LinearPlace {
  readonly initializer: string
  readonly outFirst: boolean
}

export interface Exported {
  readonly graph: Graph
  /** By module path. */
  readonly linears: ReadonlyMap<string, LinearPlace>
}

/**
 * Writes graphs by hand in the manner of PyTorch's exporters: node names that are module paths, shape arithmetic around
 * every view, transposed anonymous copies of linear weights, decomposed activations. Weights are seeded.
 */
export interface Exporter {
  input(name: string, type: 'int64' | 'float32', ...dims: (string | number)[]): string
  output(name: string, value: string): void
  /** Runs `body` inside a module. */
  within<T>(module: string, body: () => T): T
  op(kind: string, inputs: readonly string[], attributes?: Record<string, Attribute>): string
  /** A node of com.microsoft. */
  contrib(kind: string, inputs: readonly string[], attributes?: Record<string, Attribute>, count?: number): string[]
  /** A node with several outputs. */
  parts(kind: string, inputs: readonly string[], count: number, attributes?: Record<string, Attribute>): string[]
  /** A parameter of the current module. */
  weight(name: string, shape: readonly number[], around?: number): string
  scalar(value: number): string
  index(value: number): string
  indices(values: readonly number[], shape?: readonly number[]): string
  floats(values: readonly number[], shape: readonly number[]): string
  truths(values: readonly boolean[], shape: readonly number[]): string
  linear(name: string, x: string, from: number, to: number, options?: LinearOptions): string
  finish(): Exported
}

const moduleOf = (path: readonly string[]): string => path.join('.').replaceAll('/', '.')

export function createExporter(seed: string, opset = 17): Exporter {
  const nodes: Node[] = []
  const initializers = new Map<string, Initializer>()
  const inputs: ValueInfo[] = []
  const outputs: ValueInfo[] = []
  const linears = new Map<string, LinearPlace>()
  const path: string[] = []
  const counts = new Map<string, number>()

  const fresh = (hint: string): string => {
    const count = counts.get(hint) ?? 0
    counts.set(hint, count + 1)
    return count === 0 ? hint : `${hint}_${count}`
  }
  const add = (initializer: Initializer): string => {
    initializers.set(initializer.name, initializer)
    return initializer.name
  }
  const constant = (make: (name: string) => Initializer): string => add(make(fresh('onnx::Constant')))
  const values = (name: string, size: number, around: number): Float32Array => {
    const rng = seededRng('families', seed, name)
    return Float32Array.from({ length: size }, () => around + 0.9 * (rng.uniform() - 0.5))
  }
  const make = (domain: string, kind: string, from: readonly string[], count: number, attributes = {}): string[] => {
    const name = fresh(`/${[...path, kind].join('/')}`)
    const made = Array.from({ length: count }, (_, index) => `${name}_output_${index}`)
    nodes.push({ op: kind, domain, name, inputs: from, outputs: made, attributes })
    return made
  }
  const parts: Exporter['parts'] = (kind, from, count, attributes) => make('', kind, from, count, attributes)
  const op: Exporter['op'] = (kind, from, attributes) => parts(kind, from, 1, attributes)[0] as string
  const weight: Exporter['weight'] = (name, shape, around = 0) => {
    const full = moduleOf([...path, name])
    const size = shape.reduce((product, dim) => product * dim, 1)
    return initializers.has(full) ? full : add(floatConstant(full, values(full, size, around), shape))
  }
  const self: Exporter = {
    input(name, type, ...shape) {
      inputs.push({ name, type, shape })
      return name
    },
    output(name, value) {
      nodes.push({
        op: 'Identity',
        domain: '',
        name: fresh('/Identity'),
        inputs: [value],
        outputs: [name],
        attributes: {}
      })
      outputs.push({ name, type: 'float32', shape: ['batch', 'out'] })
    },
    within(module, body) {
      path.push(module)
      try {
        return body()
      } finally {
        path.pop()
      }
    },
    op,
    contrib: (kind, from, attributes, count = 1) => make('com.microsoft', kind, from, count, attributes),
    parts,
    weight,
    scalar: (value) => constant((name) => floatConstant(name, value)),
    index: (value) => constant((name) => intConstant(name, value)),
    indices: (list, shape) => constant((name) => intConstant(name, list, shape)),
    floats: (list, shape) => constant((name) => floatConstant(name, list, shape)),
    truths: (list, shape) => constant((name) => boolConstant(name, list, shape)),
    linear: (name, x, from, to, { bias = true, matrix = false } = {}) =>
      self.within(name, () => {
        const module = moduleOf(path)
        const known = linears.get(module)
        if (matrix) {
          const w = weight('weight', [to, from])
          linears.set(module, { initializer: w, outFirst: true })
          return op('Gemm', bias ? [x, w, weight('bias', [to])] : [x, w], { transB: int(1) })
        }
        const anonymous =
          known?.initializer ??
          add(floatConstant(fresh('onnx::MatMul'), values(`${module}.weight`, from * to, 0), [from, to]))
        linears.set(module, { initializer: anonymous, outFirst: false })
        const product = op('MatMul', [x, anonymous])
        return bias ? op('Add', [weight('bias', [to]), product]) : product
      }),
    finish: () => ({
      graph: {
        name: seed,
        opsets: { '': opset, ...(nodes.some(({ domain }) => domain !== '') && { 'com.microsoft': 1 }) },
        inputs,
        outputs,
        nodes,
        initializers,
        values: new Map()
      },
      linears
    })
  }
  return self
}
