import { PeertuneError } from '../../base/errors.js'
import { intConstant } from '../../onnx/graph/constant.js'
import type { Graph, Initializer, Node, ValueInfo } from '../../onnx/graph/graph.js'
import { plainNode } from '../../onnx/graph/plain-node.js'
import { staticShape } from '../../onnx/graph/rewrite.js'
import type { Shape } from '../../tensor/schema.js'
import type { InputShapes } from '../method/method.js'
import { int } from './rewrite-linear.js'

/** The graph input that carries the tokens; every other input of its shape runs along the sequence, too. */
export const TOKENS = 'input_ids'
/** What stands in front of the mask: virtual positions are attended to. Other inputs get zeros. */
const MASK = 'attention_mask'
const POSITIONS = 'position_ids'

/** Throws `config/no-tokens` for a model that takes none. */
export function requireTokens({ inputs }: Graph): void {
  if (inputs.some(({ name, shape }) => name === TOKENS && shape.length === 2)) return
  throw new PeertuneError('config/no-tokens', `prompt and prefix tuning need a model with an input ${TOKENS}`, {
    facts: { inputs: inputs.map(({ name }) => name) },
    hint: 'choose another method for this model'
  })
}

/** Shapes with `count` more positions in every sequence. Throws `config/no-tokens` for a model that takes none. */
export function makeRoom(batch: InputShapes, graph: Graph, count: number): InputShapes {
  if (count === 0) return batch
  requireTokens(graph)
  const tokens = batch[TOKENS] ?? []
  const [rows = 0, sequence = 0] = tokens
  return Object.fromEntries(
    Object.entries(batch).map(([name, shape]) => [
      name,
      shape.join() === tokens.join() ? [rows, sequence + count] : shape
    ])
  )
}

/**
 * The graph of the longer sequence, reading batches of the shorter one: the virtual positions' mask is 1, their token
 * type 0, and positions that are an input count on from them. Logits [batch, sequence, classes] keep the last positions, as
 * many as there are labels: labels one longer than the text also score its first token, predicted from the prompt alone,
 * which PEFT's loss for prompts does.
 *
 * @param labels shape of the labels; those of the text where left out.
 */
export function putInFront(graph: Graph, count: number, labels?: Shape): Graph {
  if (count === 0) return graph
  const extended = extendInputs(graph, count)
  const long = staticShape(extended.values.get(extendedName(TOKENS)), TOKENS)[1] as number
  const kept = labels?.length === 2 ? (labels[1] as number) : long - count
  return cutOutput(extended, { start: Math.max(0, long - kept), long })
}

interface Addition {
  readonly input: ValueInfo
  readonly nodes: readonly Node[]
  readonly constants: readonly Initializer[]
  readonly values: readonly ValueInfo[]
}

const extendedName = (name: string): string => `${name}.extended`

function extendInputs(graph: Graph, count: number): Graph {
  const long = staticShape(graph.values.get(TOKENS), TOKENS)
  const additions = graph.inputs
    .filter(({ shape }) => shape.join() === long.join())
    .map((input) => extension(input, long, count))
  const byName = new Map(additions.map(({ input }) => [input.name, input]))
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((name) => (byName.has(name) ? extendedName(name) : name))
  }))
  const values = new Map(graph.values)
  const initializers = new Map(graph.initializers)
  for (const addition of additions) {
    for (const constant of addition.constants) initializers.set(constant.name, constant)
    for (const { name, type, shape } of [addition.input, ...addition.constants, ...addition.values])
      values.set(name, { name, type, shape })
  }
  return {
    ...graph,
    inputs: graph.inputs.map((input) => byName.get(input.name) ?? input),
    nodes: [...additions.flatMap((addition) => addition.nodes), ...nodes],
    initializers,
    values
  }
}

function extension({ name, type }: ValueInfo, [rows = 0, long = 0]: Shape, count: number): Addition {
  if (type !== 'int64')
    throw new PeertuneError('config/no-tokens', `input ${name} runs along the sequence but is ${type}, not int64`, {
      facts: { name, type },
      hint: 'choose another method for this model'
    })
  const short = { name, type, shape: [rows, long - count] }
  const positions = Array.from({ length: rows * count }, (_, index) => index % count)
  const filler = name === POSITIONS ? positions : positions.fill(name === MASK ? 1 : 0)
  const front = intConstant(`${name}.front`, filler, [rows, count])
  const extended = { name: extendedName(name), type, shape: [rows, long] }
  const axis = int(1)
  if (name !== POSITIONS)
    return {
      input: short,
      nodes: [plainNode('Concat', [front.name, name], extended.name, { axis })],
      constants: [front],
      values: [extended]
    }
  const offset = intConstant(`${name}.offset`, [count])
  const later = { ...short, name: `${name}.later` }
  return {
    input: short,
    nodes: [
      plainNode('Add', [name, offset.name], later.name),
      plainNode('Concat', [front.name, later.name], extended.name, { axis })
    ],
    constants: [front, offset],
    values: [later, extended]
  }
}

interface Cut {
  readonly start: number
  readonly long: number
}

/** Logits [batch, long, classes] lose their first positions; those without a sequence axis stay. */
function cutOutput(graph: Graph, { start, long }: Cut): Graph {
  const [output] = graph.outputs
  if (start === 0 || output === undefined || output.shape.length !== 3 || output.shape[1] !== long) return graph
  const { name, type, shape } = output
  const whole = `${name}.extended`
  const short = { name, type, shape: [shape[0] as number, long - start, shape[2] as number] }
  const bounds = [start, long, 1].map((value, index) => intConstant(`${name}.cut.${index}`, [value]))
  const renamed = (value: string): string => (value === name ? whole : value)
  return {
    ...graph,
    outputs: [short, ...graph.outputs.slice(1)],
    nodes: [
      ...graph.nodes.map((one) => ({
        ...one,
        inputs: one.inputs.map(renamed),
        outputs: one.outputs.map(renamed)
      })),
      plainNode('Slice', [whole, ...bounds.map((bound) => bound.name)], name)
    ],
    initializers: new Map([...graph.initializers, ...bounds.map((bound) => [bound.name, bound] as const)]),
    values: new Map([...graph.values, [whole, { ...output, name: whole }], [name, short]])
  }
}
