import type { Graph, Initializer, Node } from './graph.js'
import { sameTensor } from './same-tensor.js'

/**
 * Puts right what the TorchScript exporter's node names say of modules. It follows calls, not attributes: a module that
 * is never called itself is missing in the paths of those inside it (OPT's `model` in front of `decoder`), and one that
 * is called again gets a number (ALBERT's shared layers: `query_1`).
 */
export function correctModules(graph: Graph): Graph {
  const inserted = withModules(graph, moduleInserter(graph))
  return withModules(inserted, callMerger(inserted))
}

function withModules(graph: Graph, correct: (module: string) => string): Graph {
  const nodes = graph.nodes.map((node): Node => {
    const { module } = node
    if (module === undefined) return node
    const right = correct(module)
    return right === module ? node : { ...node, module: right }
  })
  return { ...graph, nodes }
}

/**
 * Initializers keep the names of attributes. One that a single node reads tells where that node really is: segments that
 * its path has and the node's has not are put in front of the same first segment everywhere.
 */
function moduleInserter(graph: Graph): (module: string) => string {
  const insertions = new Map<string, string>()
  for (const [node, initializer] of singleUses(graph)) {
    const found = insertionOf(node.module ?? '', initializer.name)
    if (found !== undefined) insertions.set(...found)
  }
  if (insertions.size === 0) return (module) => module
  return (module) => {
    const segments = module.split('.')
    for (let length = 1; length <= segments.length; length++) {
      const whole = insertions.get(segments.slice(0, length).join('.'))
      if (whole !== undefined) return [whole, ...segments.slice(length)].join('.')
    }
    return module
  }
}

/** `model.decoder`, `model.model.decoder.fc1.weight` (in a node of `model.decoder.fc1`) -> what the first is in full. */
function insertionOf(module: string, tensor: string): [string, string] | undefined {
  const short = module.split('.')
  const long = tensor.split('.').slice(0, -1)
  const start = short.findIndex((segment, index) => segment !== long[index])
  const missing = long.length - short.length
  if (start < 0 || missing <= 0) return undefined
  if (short.slice(start).some((segment, index) => segment !== long[start + missing + index])) return undefined
  return [short.slice(0, start + 1).join('.'), long.slice(0, start + missing + 1).join('.')]
}

function singleUses({ nodes, initializers }: Graph): [Node, Initializer][] {
  const readers = new Map<string, Node[]>()
  for (const node of nodes)
    for (const input of node.inputs)
      if (initializers.has(input)) readers.set(input, [...(readers.get(input) ?? []), node])
  return Array.from(readers).flatMap(([name, [node, ...others]]): [Node, Initializer][] =>
    node === undefined || others.length > 0 ? [] : [[node, initializers.get(name) as Initializer]]
  )
}

/** `query_1` is `query` called again where it reads the same tensors. */
function callMerger({ nodes, initializers }: Graph): (module: string) => string {
  const tensors = new Map<string, Initializer[]>()
  for (const { module, inputs } of nodes) {
    if (module === undefined) continue
    const own = inputs.flatMap((input) => initializers.get(input) ?? []).filter(isParameter)
    if (own.length > 0) tensors.set(module, [...(tensors.get(module) ?? []), ...own])
  }
  return (module) => {
    const first = module.replace(/_\d+$/, '')
    const [mine, others] = [tensors.get(module), tensors.get(first)]
    if (first === module || mine === undefined || others === undefined) return module
    return mine.every((tensor) => others.some((other) => sameTensor(tensor, other))) ? first : module
  }
}

const isParameter = ({ type, shape }: Initializer): boolean => type.startsWith('float') && shape.length > 0
