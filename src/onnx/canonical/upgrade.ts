import { PeertuneError } from '../../base/errors.js'
import { floatConstant, intConstant } from '../graph/constant.js'
import type { Attribute, Graph, Initializer, Node } from '../graph/graph.js'

/** First opset that is lifted: below it operators have meanings that no exporter of transformers ever wrote. */
export const OLDEST_OPSET = 9
/** Last opset that the runtime takes. */
export const NEWEST_OPSET = 26
/** Every canonical graph is at least here: reductions take their axes as an input, Gelu is an operator. */
export const CANONICAL_OPSET = 20

/** Adds a constant beside `node` and returns its name. */
type Constants = (node: Node, hint: string, make: (name: string) => Initializer) => string
type Upgrade = (node: Node, constants: Constants) => readonly Node[]

/**
 * What changed in the operators that exporters write, by the opset that changed it; all of it is applied in order to
 * older graphs. https://github.com/onnx/onnx/blob/main/docs/Changelog.md
 */
const CHANGES: readonly { readonly opset: number; readonly upgrades: Readonly<Record<string, Upgrade>> }[] = [
  { opset: 10, upgrades: { Slice: attributesToInputs(['starts', 'ends', 'axes']), Dropout: withoutRatio } },
  { opset: 11, upgrades: { Clip: attributesToInputs(['min', 'max']), Pad: attributesToInputs(['pads', 'value']) } },
  { opset: 12, upgrades: { Dropout: withoutRatio } },
  {
    opset: 13,
    upgrades: {
      ...Object.fromEntries(['ReduceSum', 'Squeeze', 'Unsqueeze'].map((op) => [op, attributesToInputs(['axes'])])),
      Split: attributesToInputs(['split']),
      Softmax: flattenFirst,
      LogSoftmax: flattenFirst
    }
  },
  {
    opset: 18,
    upgrades: {
      ...Object.fromEntries(
        ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((kind) => [
          `Reduce${kind}`,
          attributesToInputs(['axes'])
        ])
      ),
      Split: countOutputs
    }
  }
]

/** Lifts an older graph to opset 20; newer ones stay. Throws `onnx/unsupported-opset`. */
export function upgradeOpset(graph: Graph): Graph {
  const opset = graph.opsets[''] ?? 0
  if (opset < OLDEST_OPSET || opset > NEWEST_OPSET)
    throw new PeertuneError('onnx/unsupported-opset', `the model is of opset ${opset}`, {
      facts: { opset, oldest: OLDEST_OPSET, newest: NEWEST_OPSET },
      hint: `export it again with opset ${CANONICAL_OPSET}`
    })
  const initializers = new Map(graph.initializers)
  const constants: Constants = (node, hint, make) => {
    const name = `${node.outputs[0]}.${hint}`
    initializers.set(name, make(name))
    return name
  }
  const nodes = CHANGES.filter((change) => change.opset > opset).reduce(
    (all, { upgrades }) =>
      all.flatMap((node) => (node.domain === '' ? (upgrades[node.op]?.(node, constants) ?? [node]) : [node])),
    graph.nodes
  )
  return { ...graph, opsets: { ...graph.opsets, '': Math.max(opset, CANONICAL_OPSET) }, nodes, initializers }
}

/** Attributes that became the inputs behind the first, in that order; absent ones stay absent. */
function attributesToInputs(names: readonly string[]): Upgrade {
  return (node, constants) => {
    if (!names.some((name) => node.attributes[name] !== undefined)) return [node]
    const inputs = names.map((name) => {
      const attribute = node.attributes[name]
      return attribute === undefined ? '' : constants(node, name, (constant) => constantOf(constant, attribute))
    })
    while (inputs.at(-1) === '') inputs.pop()
    const attributes = Object.fromEntries(Object.entries(node.attributes).filter(([name]) => !names.includes(name)))
    return [{ ...node, inputs: [node.inputs[0] as string, ...inputs], attributes }]
  }
}

function constantOf(name: string, attribute: Attribute): Initializer {
  if (attribute.type === 'ints') return intConstant(name, attribute.value)
  if (attribute.type === 'float') return floatConstant(name, attribute.value)
  throw new PeertuneError('onnx/unsupported-feature', `attribute ${name} is of type ${attribute.type}`, {
    facts: { name, type: attribute.type }
  })
}

/** The share to drop means nothing without training mode, which these versions do not have. */
function withoutRatio(node: Node): readonly Node[] {
  const { ratio: _, ...attributes } = node.attributes
  return [{ ...node, attributes }]
}

/** Until opset 13 a softmax ran over all axes from `axis` (1 by default) on, as if they were one. */
function flattenFirst(node: Node): readonly Node[] {
  const [x = ''] = node.inputs
  const [y = ''] = node.outputs
  const axis = Number(node.attributes.axis?.value ?? 1)
  if (axis === -1) return [node]
  const part = (op: string, inputs: readonly string[], output: string, attributes: Node['attributes'] = {}): Node => ({
    ...node,
    op,
    inputs,
    outputs: [output],
    attributes
  })
  return [
    part('Shape', [x], `${y}.shape`),
    part('Flatten', [x], `${y}.rows`, { axis: { type: 'int', value: axis } }),
    part(node.op, [`${y}.rows`], `${y}.softmax`, { axis: { type: 'int', value: 1 } }),
    part('Reshape', [`${y}.softmax`, `${y}.shape`], y)
  ]
}

/** Equal parts are said by their number where no sizes are given. */
function countOutputs(node: Node): readonly Node[] {
  if (node.inputs.length > 1 || node.attributes.split !== undefined) return [node]
  const num_outputs = { type: 'int', value: node.outputs.length } as const
  return [{ ...node, attributes: { ...node.attributes, num_outputs } }]
}
