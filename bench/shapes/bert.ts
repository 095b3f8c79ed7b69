import type { Graph } from '../../src/onnx/graph/graph.js'
import { type Builder, positions, sequenceLength, tokenInputs } from './builder.js'

/** As in Hugging Face's BertConfig. */
export interface BertShape {
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly intermediate: number
  readonly vocabulary: number
  readonly positions: number
  readonly labels: number
}

export const BERT_BASE: BertShape = {
  hidden: 768,
  layers: 12,
  heads: 12,
  intermediate: 3072,
  vocabulary: 30522,
  positions: 512,
  labels: 2
}

/** BertForSequenceClassification (Devlin et al. 2018): logits float32[batch, labels]. */
export function buildBert(b: Builder, shape: BertShape): Graph {
  const { hidden, layers, labels } = shape
  const mask = attentionBias(b)
  let x = embed(b, shape)
  for (let layer = 0; layer < layers; layer++) x = encoderLayer(b, shape, `bert.encoder.layer.${layer}`, x, mask)
  const first = b.emit('Gather', 'bert.pooler', [x, b.ints(0)], { axis: 1 })
  const pooled = b.emit('Tanh', 'bert.pooler', [gemm(b, 'bert.pooler.dense', first, [hidden, hidden])])
  gemm(b, 'classifier', pooled, [hidden, labels])
  return b.finish('bert', {
    inputs: tokenInputs('input_ids', 'attention_mask', 'token_type_ids'),
    output: { name: 'logits', type: 'float32', shape: ['batch', labels] }
  })
}

const gemm = (b: Builder, path: string, x: string, [inputs, outputs]: readonly [number, number]): string =>
  b.emit('Gemm', path, [x, b.weight(`${path}.weight`, [outputs, inputs]), b.weight(`${path}.bias`, [outputs])], {
    transB: 1
  })

function embed(b: Builder, { hidden, vocabulary, positions: count }: BertShape): string {
  const path = 'bert.embeddings'
  const table = (name: string, rows: number, ids: string): string =>
    b.emit('Gather', `${path}.${name}`, [b.weight(`${path}.${name}.weight`, [rows, hidden]), ids])
  const words = table('word_embeddings', vocabulary, 'input_ids')
  const types = table('token_type_embeddings', 2, 'token_type_ids')
  const places = table('position_embeddings', count, positions(b, path, sequenceLength(b, path, 'input_ids')))
  const sum = b.emit('Add', path, [b.emit('Add', path, [words, types]), places])
  return b.layerNorm(`${path}.LayerNorm`, sum, hidden)
}

/** 0 where attention is allowed, the most negative float where it is not: [batch, 1, 1, sequence]. */
export function attentionBias(b: Builder, path = 'bert'): string {
  const wide = b.emit('Unsqueeze', path, ['attention_mask', b.ints([1, 2])])
  const open = b.emit('Cast', path, [wide], { to: 1 })
  const closed = b.emit('Sub', path, [b.float(1), open])
  return b.emit('Mul', path, [closed, b.float(-3.4028234663852886e38)])
}

function encoderLayer(b: Builder, shape: BertShape, path: string, x: string, mask: string): string {
  const { hidden, intermediate } = shape
  const mixed = b.linear(`${path}.attention.output.dense`, selfAttention(b, shape, `${path}.attention.self`, x, mask), [
    hidden,
    hidden
  ])
  const first = b.emit('Add', `${path}.attention.output`, [mixed, x])
  const normed = b.layerNorm(`${path}.attention.output.LayerNorm`, first, hidden)
  const wide = gelu(b, `${path}.intermediate`, b.linear(`${path}.intermediate.dense`, normed, [hidden, intermediate]))
  const narrow = b.linear(`${path}.output.dense`, wide, [intermediate, hidden])
  return b.layerNorm(`${path}.output.LayerNorm`, b.emit('Add', `${path}.output`, [narrow, normed]), hidden)
}

function selfAttention(b: Builder, { hidden, heads }: BertShape, path: string, x: string, mask: string): string {
  const width = hidden / heads
  const project = (name: string, perm: readonly number[]): string =>
    b.transpose(path, b.reshape(path, b.linear(`${path}.${name}`, x, [hidden, hidden]), [0, -1, heads, width]), perm)
  const query = project('query', [0, 2, 1, 3])
  const key = project('key', [0, 2, 3, 1])
  const value = project('value', [0, 2, 1, 3])
  const scaled = b.emit('Div', path, [b.emit('MatMul', path, [query, key]), b.float(Math.sqrt(width))])
  const weights = b.emit('Softmax', path, [b.emit('Add', path, [scaled, mask])], { axis: -1 })
  const context = b.transpose(path, b.emit('MatMul', path, [weights, value]), [0, 2, 1, 3])
  return b.reshape(path, context, [0, 0, hidden])
}

/** x (1 + erf(x / sqrt 2)) / 2, taken apart as opset 18 must. */
function gelu(b: Builder, path: string, x: string): string {
  const erf = b.emit('Erf', path, [b.emit('Div', path, [x, b.float(Math.SQRT2)])])
  const product = b.emit('Mul', path, [x, b.emit('Add', path, [erf, b.float(1)])])
  return b.emit('Mul', path, [product, b.float(0.5)])
}
