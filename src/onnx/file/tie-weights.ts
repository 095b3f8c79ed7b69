import type { Initializer, Node } from '../graph/graph.js'
import { plainNode } from '../graph/plain-node.js'
import { pruneGraph } from '../graph/rewrite.js'
import type { NamedWeights, Weight } from '../graph/weight.js'

/**
 * Makes an embedding table and a linear layer of the same numbers one value, under the embedding's name: a tied language
 * model head, which exporters write out as a transposed copy. Its gradient is then the sum over both uses, and the copy
 * is gone. Constant-valued tensors are never taken for tied: equal there means untrained, not shared.
 */
export function tieWeights({ graph, weights }: NamedWeights): NamedWeights {
  const tables = graph.nodes.flatMap((node) =>
    node.op === 'Gather' ? (weights.get(node.inputs[0] as string) ?? []) : []
  )
  const ties = new Map<string, Tie>()
  for (const weight of weights.values()) {
    const tie = tables.map((table) => tieOf(weight, table)).find((found) => found !== undefined)
    if (tie !== undefined) ties.set(weight.name, tie)
  }
  if (ties.size === 0) return { graph, weights }
  const nodes = graph.nodes.flatMap((node) => retarget(node, ties))
  const left = new Map([...weights].filter(([name]) => !ties.has(name)))
  return { graph: pruneGraph({ ...graph, nodes }), weights: left }
}

interface Tie {
  readonly table: string
  readonly transposed: boolean
}

function tieOf(weight: Weight, table: Weight): Tie | undefined {
  if (weight === table || weight.initializer.shape.length !== 2) return undefined
  const sameData = weight.initializer.data === table.initializer.data
  if (sameData || isCopy(weight.initializer, table.initializer)) return { table: table.name, transposed: false }
  return isTransposedCopy(weight.initializer, table.initializer) ? { table: table.name, transposed: true } : undefined
}

/** The transposed use reads through a Transpose, which the linear rewrite turns into a flag of Gemm. */
function retarget(node: Node, ties: ReadonlyMap<string, Tie>): Node[] {
  const before: Node[] = []
  const inputs = node.inputs.map((input) => {
    const tie = ties.get(input)
    if (tie === undefined) return input
    if (!tie.transposed) return tie.table
    const output = `${input}.tied`
    const perm = { type: 'ints', value: [1, 0] } as const
    before.push(plainNode('Transpose', [tie.table], output, { perm }))
    return output
  })
  return [...before, { ...node, inputs }]
}

/** Elements as 32-bit patterns, or undefined where they are not in memory. */
function patterns({ data, type }: Initializer): Uint32Array | undefined {
  if (data.kind !== 'inline' || type !== 'float32') return undefined
  const bytes = data.bytes.byteOffset % 4 === 0 ? data.bytes : new Uint8Array(data.bytes)
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
}

const isConstant = (values: Uint32Array): boolean => values.every((value) => value === values[0])

function isCopy(a: Initializer, b: Initializer): boolean {
  if (a.shape[0] !== b.shape[0] || a.shape[1] !== b.shape[1]) return false
  if (a.data.kind === 'external' && b.data.kind === 'external')
    return a.data.location === b.data.location && a.data.offset === b.data.offset
  const [x, y] = [patterns(a), patterns(b)]
  return x !== undefined && y !== undefined && !isConstant(x) && x.every((value, index) => value === y[index])
}

function isTransposedCopy(a: Initializer, b: Initializer): boolean {
  const [rows = 0, columns = 0] = a.shape
  if (rows !== b.shape[1] || columns !== b.shape[0]) return false
  const [x, y] = [patterns(a), patterns(b)]
  if (x === undefined || y === undefined || isConstant(x)) return false
  return x.every((value, index) => value === y[(index % columns) * rows + Math.floor(index / columns)])
}
