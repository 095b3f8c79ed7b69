import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../src/onnx/graph/graph.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { inferTypes } from '../../src/onnx/canonical/specialise.js'

export interface SmallNode {
  readonly op: string
  readonly domain?: string
  readonly in: readonly string[]
  readonly out: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
  readonly module?: string
  readonly name?: string
}

export interface SmallGraph {
  readonly inputs: Readonly<Record<string, readonly number[]>>
  readonly constants?: readonly Initializer[]
  readonly nodes: readonly SmallNode[]
  readonly output: string
  readonly opset?: number
  /** Inputs that are not float32. */
  readonly types?: Readonly<Record<string, ValueInfo['type']>>
}

/** A graph in a few lines, its output's type left for the runtime to tell. */
export function smallGraph({ inputs, constants = [], nodes, output, opset = 20, types = {} }: SmallGraph): Graph {
  const infos = Object.entries(inputs).map(
    ([name, shape]) => ({ name, type: types[name] ?? 'float32', shape }) as const
  )
  return {
    name: 'small',
    opsets: { '': opset, ...(nodes.some(({ domain }) => domain === 'com.microsoft') && { 'com.microsoft': 1 }) },
    inputs: infos,
    outputs: [{ name: output, type: 'float32', shape: [] }],
    nodes: nodes.map(
      ({ op, domain = '', in: from, out, attributes = {}, module, name = out[0] as string }): Node => ({
        op,
        domain,
        name,
        inputs: from,
        outputs: out,
        attributes,
        ...(module === undefined ? {} : { module })
      })
    ),
    initializers: new Map(constants.map((constant) => [constant.name, constant])),
    values: new Map(infos.map((info) => [info.name, info]))
  }
}

/** The same, with types and shapes of all values. */
export const typedGraph = (graph: SmallGraph): Promise<Graph> => inferTypes(smallGraph(graph))

export const opsOf = (graph: Graph): string[] => graph.nodes.map(({ op }) => op)

/** Runs a graph as the runtime has it, without its optimiser. */
export async function evaluate(graph: Graph, feeds: Readonly<Record<string, SessionTensor>>, externalDir?: string) {
  const session = await createSession(graph, {
    optimization: 'disabled',
    ...(externalDir === undefined ? {} : { externalDir })
  })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

export const float = (shape: readonly number[], value: (index: number) => number): SessionTensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => value(index))
})

/** A smooth, sign-changing pattern without repeats. */
export const wave = (index: number): number => Math.sin(1.7 * index + 0.3) * (1 + (index % 5) / 3)

export const largestDifference = (a: SessionTensor | undefined, b: SessionTensor | undefined): number => {
  if (a === undefined || b === undefined || a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY
  return Array.from(a.data).reduce((max, value, index) => Math.max(max, Math.abs(value - (b.data[index] as number))), 0)
}
