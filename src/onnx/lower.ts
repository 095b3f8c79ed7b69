import { PeertuneError } from '../base/errors.js'
import type { Graph, Node } from './graph.js'
import { type RewriteContext, rewriteGraph } from './rewrite.js'

/**
 * Opset 23's big operators in terms of small ones, so that the derivative table stays small: Attention becomes two
 * products around a softmax, RotaryEmbedding a rotation by constants, RMSNormalization its older name with the inverse
 * deviation as a second output. https://onnx.ai/onnx/operators/
 */
export const lowerOpset23 = (graph: Graph): Graph =>
  rewriteGraph(graph, (node, context) => {
    if (node.domain !== '') return false
    if (node.op === 'RMSNormalization') return lowerRmsNormalization(node, context)
    if (node.op === 'RotaryEmbedding') return lowerRotaryEmbedding(node, context)
    if (node.op === 'Attention') return lowerAttention(node, context)
    return false
  })

const int = (node: Node, name: string, fallback: number): number => Number(node.attributes[name]?.value ?? fallback)

const unsupported = (node: Node, what: string): PeertuneError =>
  new PeertuneError('onnx/unsupported-feature', `${node.op} ${node.name} uses ${what}`, {
    facts: { node: node.name, op: node.op, what },
    hint: 'export with an opset below 23, which spells these operators out'
  })

function lowerRmsNormalization(node: Node, context: RewriteContext): boolean {
  const attributes = {
    axis: { type: 'int', value: int(node, 'axis', -1) },
    epsilon: { type: 'float', value: Number(node.attributes.epsilon?.value ?? 1e-5) },
    stash_type: { type: 'int', value: 1 }
  } as const
  context.emit({ op: 'SimplifiedLayerNormalization', inputs: node.inputs, attributes, outputs: node.outputs })
  return true
}

/**
 * x [batch, heads, seq, size] with halves (a, b): (a cos - b sin, b cos + a sin); cos, sin [batch, seq, size / 2],
 * already gathered by position (the form without position_ids).
 */
function lowerRotaryEmbedding(node: Node, context: RewriteContext): boolean {
  const [x = '', cos = '', sin = '', positions = ''] = node.inputs
  const shape = context.shapeOf(x)
  const [batch = 0, , sequence = 0, size = 0] = shape
  if (shape.length !== 4) throw unsupported(node, 'a three-dimensional input')
  if (positions !== '') throw unsupported(node, 'position_ids')
  if (int(node, 'interleaved', 0) !== 0) throw unsupported(node, 'interleaved halves')
  const rotated = int(node, 'rotary_embedding_dim', 0) || size
  if (rotated !== size) throw unsupported(node, `a rotation of ${rotated} of ${size} features`)
  const perHead = context.ints([batch, 1, sequence, size / 2])
  const c = context.emit({ op: 'Reshape', inputs: [cos, perHead] })
  const s = context.emit({ op: 'Reshape', inputs: [sin, perHead] })
  const [a, b] = splitHalves(x, size, context)
  const mul = (left: string, right: string) => context.emit({ op: 'Mul', inputs: [left, right] })
  const low = context.emit({ op: 'Sub', inputs: [mul(a, c), mul(b, s)] })
  const high = context.emit({ op: 'Add', inputs: [mul(b, c), mul(a, s)] })
  context.emit({
    op: 'Concat',
    inputs: [low, high],
    attributes: { axis: { type: 'int', value: -1 } },
    outputs: node.outputs
  })
  return true
}

function splitHalves(x: string, size: number, context: RewriteContext): readonly [string, string] {
  const outputs = [context.fresh('half'), context.fresh('half')] as const
  const attributes = { axis: { type: 'int', value: -1 } } as const
  context.emit({ op: 'Split', inputs: [x, context.ints([size / 2, size / 2])], attributes, outputs })
  return outputs
}

/**
 * softmax(scale q k^T + mask) v on [batch, heads, seq, size]; keys and values with fewer heads are repeated
 * (grouped-query attention). A boolean mask is true where attention is allowed. A row without any allowed position
 * gives zeros in the specification's function and in PyTorch, and does here.
 */
function lowerAttention(node: Node, context: RewriteContext): boolean {
  const [q = '', k = '', v = '', mask = ''] = node.inputs
  const [, heads = 0, queries = 0, size = 0] = context.shapeOf(q)
  checkAttention(node, context)
  const scale = Number(node.attributes.scale?.value ?? 1 / Math.sqrt(size))
  const keys = repeatHeads(k, heads, context)
  const values = repeatHeads(v, heads, context)
  const perm = { type: 'ints', value: [0, 1, 3, 2] } as const
  const transposed = context.emit({ op: 'Transpose', inputs: [keys], attributes: { perm } })
  const products = context.emit({ op: 'MatMul', inputs: [q, transposed] })
  let scores = context.emit({ op: 'Mul', inputs: [products, context.scalar(scale)] })
  if (int(node, 'is_causal', 0) === 1)
    scores = context.emit({
      op: 'Where',
      inputs: [causalMask(queries, context.shapeOf(k)[2] as number, context), scores, context.scalar(-Infinity)]
    })
  const boolean = mask !== '' && context.typeOf(mask) === 'bool'
  if (boolean) scores = context.emit({ op: 'Where', inputs: [mask, scores, context.scalar(-Infinity)] })
  else if (mask !== '') scores = context.emit({ op: 'Add', inputs: [scores, mask] })
  const axis = { type: 'int', value: -1 } as const
  const softmax = context.emit({ op: 'Softmax', inputs: [scores], attributes: { axis } })
  const blank = context.emit({ op: 'IsNaN', inputs: [softmax] })
  const weights = context.emit({ op: 'Where', inputs: [blank, context.scalar(0), softmax] })
  context.emit({ op: 'MatMul', inputs: [weights, values], outputs: [node.outputs[0] as string] })
  return true
}

function checkAttention(node: Node, context: RewriteContext): void {
  if (context.shapeOf(node.inputs[0] as string).length !== 4) throw unsupported(node, 'three-dimensional inputs')
  if (node.inputs.slice(4).some((input) => input !== '')) throw unsupported(node, 'a key/value cache')
  if (node.outputs.slice(1).some((output) => output !== '')) throw unsupported(node, 'further outputs')
  if (Number(node.attributes.softcap?.value ?? 0) !== 0) throw unsupported(node, 'softcap')
}

function repeatHeads(x: string, heads: number, context: RewriteContext): string {
  const [batch = 0, own = 0, sequence = 0, size = 0] = context.shapeOf(x)
  if (own === heads) return x
  const apart = context.emit({ op: 'Reshape', inputs: [x, context.ints([batch, own, 1, sequence, size])] })
  const repeated = context.emit({
    op: 'Expand',
    inputs: [apart, context.ints([batch, own, heads / own, sequence, size])]
  })
  return context.emit({ op: 'Reshape', inputs: [repeated, context.ints([batch, heads, sequence, size])] })
}

/** bool[queries, keys], true on and below the diagonal. */
function causalMask(queries: number, keys: number, context: RewriteContext): string {
  const column = (count: number) => context.ints(Array.from({ length: count }, (_, index) => index))
  const rows = context.emit({ op: 'Reshape', inputs: [column(queries), context.ints([queries, 1])] })
  return context.emit({ op: 'GreaterOrEqual', inputs: [rows, column(keys)] })
}
