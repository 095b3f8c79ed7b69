import { intConstant } from '../onnx/graph/constant.js'
import type { Graph, Initializer, Node, ValueInfo } from '../onnx/graph/graph.js'
import { bytesOf, peakLiveBytes } from '../onnx/graph/live-bytes.js'
import { plainNode } from '../onnx/graph/plain-node.js'
import { pruneGraph } from '../onnx/graph/rewrite.js'
import type { Shape } from '../tensor/schema.js'

export interface RecomputeOptions {
  /** The graph that was differentiated: its nodes are the forward pass. */
  readonly forward: Pick<Graph, 'nodes'>
  /** What the activations of a step may take. */
  readonly bytes: number
}

/**
 * Activations for less memory (Chen et al. 2016, https://arxiv.org/abs/1604.06174): the forward pass is cut where few
 * bytes cross, between its layers; only those are kept, and each segment runs a second time when the reverse pass comes
 * to it. The fewest segments that stay below the budget are taken; where none does, those with the lowest peak.
 * The numbers do not change: the same nodes run on the same values.
 */
export function recomputeWithin(graph: Graph, { forward, bytes }: RecomputeOptions): Graph {
  let best = { graph, peak: peakLiveBytes(graph) }
  if (best.peak <= bytes) return graph
  const cuts = cutPoints(graph, forwardNodes(graph, forward))
  for (const count of segmentCounts(cuts.length)) {
    const candidate = recompute(graph, { forward, cuts: spread(cuts, count) })
    const peak = peakLiveBytes(candidate)
    if (peak < best.peak) best = { graph: candidate, peak }
    if (peak <= bytes) break
  }
  return best.graph
}

/** 1, 2, 3, 4, 6, 8, 12, ...: each trial costs a pass over the graph. */
function segmentCounts(most: number): number[] {
  const counts: number[] = []
  for (let count = 1; count < most; count += Math.max(1, Math.floor(count / 2))) counts.push(count)
  return most > 0 ? [...counts, most] : counts
}

const spread = (cuts: readonly number[], count: number): number[] =>
  Array.from({ length: count }, (_, i) => cuts[Math.floor(((i + 1) * cuts.length) / (count + 1))] as number).filter(
    (cut, i, all) => all.indexOf(cut) === i
  )

function forwardNodes(graph: Graph, forward: Pick<Graph, 'nodes'>): Node[] {
  const names = new Set(forward.nodes.flatMap(({ outputs }) => outputs))
  return graph.nodes.filter(({ outputs }) => names.has(outputs[0] as string))
}

/**
 * Places between forward nodes where fewer bytes cross than at either side's worst: the hidden state between layers.
 * A place is the index of the first node behind it.
 */
function cutPoints(graph: Graph, nodes: readonly Node[]): number[] {
  const last = new Map<string, number>()
  for (const [at, { inputs }] of nodes.entries()) for (const input of inputs) last.set(input, at)
  const crossing: number[] = []
  let live = 0
  const ending = new Map<number, number>()
  for (const [at, { outputs }] of nodes.entries()) {
    crossing.push(live)
    live -= ending.get(at) ?? 0
    for (const output of outputs) {
      const end = last.get(output)
      if (output === '' || end === undefined || end <= at) continue
      const size = bytesOf(graph, output)
      live += size
      ending.set(end, (ending.get(end) ?? 0) + size)
    }
  }
  const inner = crossing.slice(1)
  const lowest = Math.min(...inner.filter((size) => size > 0))
  // Masks and tables of a few bytes cross everywhere; a layer boundary has one hidden state more.
  const typical = inner.toSorted((a, b) => a - b)[Math.floor(inner.length / 10)] ?? lowest
  const limit = 1.1 * Math.max(lowest, typical)
  const cuts: number[] = []
  for (let at = 1; at < nodes.length; at++) {
    const here = crossing[at] as number
    if (here > limit || here === 0) continue
    if ((crossing[at - 1] as number) <= limit && cuts.at(-1) === at - 1) cuts.pop()
    cuts.push(at)
  }
  return cuts
}

interface Plan {
  readonly forward: Pick<Graph, 'nodes'>
  readonly cuts: readonly number[]
}

/** Each segment but the last gets a copy whose inputs wait for the reverse pass to arrive; only that reads the copy. */
function recompute(graph: Graph, { forward, cuts }: Plan): Graph {
  const ahead = forwardNodes(graph, forward)
  const isAhead = new Set(ahead)
  const behind = graph.nodes.filter((node) => !isAhead.has(node))
  const values = new Map(graph.values)
  const initializers = new Map(graph.initializers)
  const bounds = [0, ...cuts, ahead.length]
  const segments = bounds.slice(1).map((end, index) => ahead.slice(bounds[index], end))
  const segmentOf = new Map(
    segments
      .slice(0, -1)
      .flatMap((nodes, index) => nodes.flatMap(({ outputs }) => outputs.map((o) => [o, index] as const)))
  )
  const copies = new Map<string, string>()
  const started = new Set<number>()
  const nodes: Node[] = [...ahead]
  for (const node of behind) {
    for (const input of node.inputs) {
      const segment = segmentOf.get(input)
      if (segment === undefined || started.has(segment)) continue
      started.add(segment)
      const signal = latestGradient(nodes.slice(ahead.length), values)
      if (signal !== undefined) nodes.push(...copyOf(segments[segment] ?? [], { signal, copies, values, initializers }))
    }
    nodes.push({ ...node, inputs: node.inputs.map((input) => copies.get(input) ?? input) })
  }
  return pruneGraph({ ...graph, nodes, values, initializers })
}

/** The value that the reverse pass made last: when it is there, everything above the segment is done with. */
function latestGradient(nodes: readonly Node[], values: ReadonlyMap<string, ValueInfo>): string | undefined {
  return nodes.flatMap(({ outputs }) => outputs).findLast((name) => values.get(name)?.type === 'float32')
}

interface Copying {
  readonly signal: string
  readonly copies: Map<string, string>
  readonly values: Map<string, ValueInfo>
  readonly initializers: Map<string, Initializer>
}

const copyName = (name: string): string => (name === '' ? '' : `again.${name}`)

/** The segment once more, under new names; its nodes that read nothing of each other wait for the signal. */
function copyOf(segment: readonly Node[], context: Copying): Node[] {
  const { copies, values } = context
  const own = new Set(segment.flatMap(({ outputs }) => outputs))
  const nodes: Node[] = []
  const delay = delayer(context, nodes)
  for (const node of segment) {
    const waiting = node.inputs.some((input) => own.has(input)) ? undefined : smallestOf(node.inputs, context)
    const inputs = node.inputs.map((input) => {
      if (own.has(input)) return copyName(input)
      return input === waiting ? delay(input) : input
    })
    const outputs = node.outputs.map(copyName)
    for (const [index, output] of outputs.entries()) {
      const info = values.get(node.outputs[index] as string)
      if (output !== '' && info !== undefined) values.set(output, { ...info, name: output })
    }
    nodes.push({ ...node, name: outputs[0] ?? node.name, inputs, outputs })
  }
  for (const name of own) if (name !== '') copies.set(name, copyName(name))
  return nodes
}

/** Constants cannot be made to wait; a node that reads nothing else runs whenever the runtime likes. */
const smallestOf = (inputs: readonly string[], { values, initializers }: Copying): string | undefined =>
  inputs
    .filter((input) => input !== '' && values.has(input) && !initializers.has(input))
    .toSorted((a, b) => bytesOf({ values }, a) - bytesOf({ values }, b))[0]

/** Gives a value the name under which it is there only once the signal is; the nodes for that go to `nodes`. */
function delayer(context: Copying, nodes: Node[]): (name: string) => string {
  const { signal, values, initializers } = context
  const wait = nothingOf(context, nodes)
  const delayed = new Map<string, string>()
  return (name) => {
    const known = delayed.get(name)
    if (known !== undefined) return known
    const info = values.get(name) as ValueInfo
    const later = `later.${signal}.${name}`
    const target = intConstant(`${later}.dims`, info.shape as Shape)
    initializers.set(target.name, target)
    nodes.push(
      plainNode('Concat', [wait, target.name], `${later}.shape`, { axis: { type: 'int', value: 0 } }),
      plainNode('Reshape', [name, `${later}.shape`], later)
    )
    values.set(later, { ...info, name: later })
    values.set(`${later}.shape`, { name: `${later}.shape`, type: 'int64', shape: [info.shape.length] })
    values.set(target.name, { name: target.name, type: 'int64', shape: target.shape })
    delayed.set(name, later)
    return later
  }
}

/** int64[0] that exists only once `signal` does: put in front of a shape it changes nothing but when. */
function nothingOf({ signal, values }: Copying, nodes: Node[]): string {
  const name = `after.${signal}`
  const none = { type: 'int', value: 0 } as const
  nodes.push(plainNode('Shape', [signal], name, { start: none, end: none }))
  values.set(name, { name, type: 'int64', shape: [0] })
  return name
}
