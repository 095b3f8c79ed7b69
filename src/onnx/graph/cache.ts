import { PeertuneError } from '../../base/errors.js'
import type { Graph, Node, ValueInfo } from './graph.js'
import { plainNode } from './plain-node.js'
import { pruneGraph } from './rewrite.js'

/** What exporters call the key/value cache that a decoder takes and the one it returns. */
const PAST = /^past(_key_values?)?([._]|\d|$)/
const PRESENT = /^present(_key_values?)?([._]|\d|$)/

/**
 * A decoder exported with a key/value cache, as it is used in training: the cache that goes in is empty, the one that
 * comes out is dropped. The empty tensors are computed from the batch's own shape, so that they fold away with it.
 */
export function dropCache(graph: Graph): Graph {
  const past = graph.inputs.filter(({ name }) => PAST.test(name))
  const outputs = graph.outputs.filter(({ name }) => !PRESENT.test(name))
  if (past.length === 0 || outputs.length === 0) return graph
  const inputs = graph.inputs.filter((input) => !past.includes(input))
  const empty = past.flatMap((info) => emptyCache(info, inputs))
  return pruneGraph({ ...graph, inputs, outputs, nodes: [...empty, ...graph.nodes] })
}

/** [batch, heads, 0, size]: the length is the last axis but one. */
function emptyCache(info: ValueInfo, inputs: readonly ValueInfo[]): Node[] {
  const { name, shape } = info
  const [batch, ...rest] = shape
  const first = inputs[0]
  if (shape.length !== 4 || first === undefined || rest.some((dim, i) => i !== 1 && typeof dim !== 'number'))
    throw new PeertuneError('onnx/unsupported-feature', `the cache ${name} is of shape [${shape.join(', ')}]`, {
      facts: { input: name, shape },
      hint: 'export the model without a key/value cache (use_cache=False)'
    })
  const [heads, , size] = rest as number[]
  const ints = (output: string, value: readonly number[]): Node =>
    plainNode('Constant', [], output, { value_ints: { type: 'ints', value } })
  const firstAxis = { start: { type: 'int', value: 0 }, end: { type: 'int', value: 1 } } as const
  const rows =
    typeof batch === 'number'
      ? ints(`${name}.batch`, [batch])
      : plainNode('Shape', [first.name], `${name}.batch`, firstAxis)
  return [
    rows,
    ints(`${name}.rest`, [heads as number, 0, size as number]),
    plainNode('Concat', [`${name}.batch`, `${name}.rest`], `${name}.dims`, { axis: { type: 'int', value: 0 } }),
    plainNode('ConstantOfShape', [`${name}.dims`], name)
  ]
}
