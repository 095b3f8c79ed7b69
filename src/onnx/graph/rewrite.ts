import { PeertuneError } from '../../base/errors.js'
import type { Shape } from '../../tensor/schema.js'
import { createConstantPool, floatConstant, intConstant, intValues } from './constant.js'
import type { Attribute, ElementType, Graph, Initializer, Node, ValueInfo } from './graph.js'

export interface NewNode {
  readonly op: string
  /** The standard domain by default. */
  readonly domain?: string
  readonly inputs: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
  /** Output names; one fresh name when left out. */
  readonly outputs?: readonly string[]
  /** Type and shape of the (single) output, where the caller knows it. */
  readonly type?: ElementType
  readonly shape?: Shape
}

/** What a rewrite rule sees of the graph, and how it adds to it. New nodes come before the node being visited. */
export interface RewriteContext {
  producerOf(value: string): Node | undefined
  /** Nodes that read `value`, before this rewrite. */
  consumersOf(value: string): readonly Node[]
  constantOf(value: string): Initializer | undefined
  /** Throws `onnx/no-shape` unless every dimension is a number. */
  shapeOf(value: string): Shape
  typeOf(value: string): ElementType | undefined
  isOutput(value: string): boolean
  fresh(hint: string): string
  /** Lets every later reader of `value` read `replacement` instead; `value` must be no graph output. */
  alias(value: string, replacement: string): void
  /** Where `value` reads from now on. */
  resolve(value: string): string
  /** Adds a node, under the name and module of the one being visited, and returns its first output. */
  emit(node: NewNode): string
  ints(values: readonly number[]): string
  scalar(value: number): string
  /** Adds a constant under its own (fresh) name. */
  constant(initializer: Initializer): string
}

/**
 * One pass over the nodes in order. A rule returns true when it has emitted a replacement (which must make the visited
 * node's outputs, under their own names, where they are still read); otherwise the node stays. Dead nodes and unused
 * constants are dropped at the end.
 */
export function rewriteGraph(graph: Graph, rule: (node: Node, context: RewriteContext) => boolean): Graph {
  const work = startRewrite(graph)
  for (const node of graph.nodes) {
    work.visit(node)
    if (!rule(node, work.context)) work.push(node)
  }
  return pruneGraph({ ...graph, nodes: work.nodes, initializers: work.initializers, values: work.values })
}

function startRewrite(graph: Graph) {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  const consumers = new Map<string, Node[]>()
  for (const node of graph.nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node])
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const nodes: Node[] = []
  const initializers = new Map(graph.initializers)
  const values = new Map(graph.values)
  const taken = new Set([...values.keys(), ...producers.keys()])
  let serial = 0
  const fresh = (hint: string): string => {
    let name = `${hint}_${serial++}`
    while (taken.has(name)) name = `${hint}_${serial++}`
    taken.add(name)
    return name
  }
  const aliases = new Map<string, string>()
  const resolve = (value: string): string => aliases.get(value) ?? value
  const push = (node: Node): void => void nodes.push({ ...node, inputs: node.inputs.map(resolve) })
  const constant = createConstantPool({ initializers, values, fresh })
  let visited: Node | undefined
  const context: RewriteContext = {
    producerOf: (value) => producers.get(value),
    consumersOf: (value) => consumers.get(value) ?? [],
    constantOf: (value) => initializers.get(value),
    shapeOf: (value) => staticShape(values.get(value) ?? initializers.get(value), value),
    typeOf: (value) => values.get(value)?.type,
    isOutput: (value) => outputs.has(value),
    fresh,
    resolve,
    alias: (value, replacement) => void aliases.set(value, resolve(replacement)),
    emit({
      op,
      domain = '',
      inputs,
      attributes = {},
      outputs: names = [fresh(op.toLowerCase())],
      type = 'float32',
      shape
    }) {
      const first = names[0] as string
      const module = visited?.module
      const from = { name: visited?.name ?? first, ...(module === undefined ? {} : { module }) }
      push({ op, domain, ...from, inputs, outputs: names, attributes })
      if (shape !== undefined) values.set(first, { name: first, type, shape })
      return first
    },
    constant(initializer) {
      const { name, type, shape } = initializer
      initializers.set(name, initializer)
      values.set(name, { name, type, shape })
      return name
    },
    ints: (list) => constant(`int64 ${list.join()}`, (name) => intConstant(name, list)),
    scalar: (value) => constant(`float32 ${value}`, (name) => floatConstant(name, value))
  }
  const visit = (node: Node): void => {
    visited = node
  }
  return { context, push, visit, nodes, initializers, values }
}

/** Throws `onnx/no-shape` unless every dimension is a number. */
export function staticShape(info: Pick<ValueInfo, 'shape'> | undefined, value: string): Shape {
  if (info?.shape.every((dim) => typeof dim === 'number')) return info.shape as Shape
  throw new PeertuneError('onnx/no-shape', `value ${value} has no static shape`, {
    facts: { value, shape: info?.shape ?? [] }
  })
}

/** Integer values of a constant input, undefined where it is none. */
export const constantInts = (value: string | undefined, context: RewriteContext): readonly number[] | undefined => {
  const constant = value === undefined ? undefined : context.constantOf(value)
  return constant?.data.kind === 'inline' ? intValues(constant) : undefined
}

/** Without the nodes and constants that no output needs. Graph inputs stay, read or not. */
export function pruneGraph(graph: Graph): Graph {
  const needed = new Set(graph.outputs.map(({ name }) => name))
  const nodes: Node[] = []
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((output) => needed.has(output))) continue
    for (const input of node.inputs) needed.add(input)
    nodes.push(node)
  }
  for (const { outputs } of nodes) for (const output of outputs) needed.add(output)
  for (const { name } of graph.inputs) needed.add(name)
  return {
    ...graph,
    nodes: nodes.reverse(),
    initializers: new Map([...graph.initializers].filter(([name]) => needed.has(name))),
    values: new Map([...graph.values].filter(([name]) => needed.has(name)))
  }
}
