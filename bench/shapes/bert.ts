import type { Graph } from '../../src/onnx/graph/graph.js'
import { type Builder, type GraphBuilder, positions, sequenceLength, tokenInputs } from './builder.js'

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
export function buildBert(b: GraphBuilder, shape: BertShape): Graph {
  const { hidden, layers, labels } = shape
  const bert = b.at('bert')
  const mask = attentionBias(bert)
  let x = embed(bert.at('embeddings'), shape)
  for (let layer = 0; layer < layers; layer++) x = encoderLayer(bert.at(`encoder.layer.${layer}`), shape, { x, mask })
  const pooler = bert.at('pooler')
  const first = pooler.emit('Gather', [x, b.ints(0)], { axis: 1 })
  const pooled = pooler.emit('Tanh', [gemm(pooler.at('dense'), first, [hidden, hidden])])
  gemm(b.at('classifier'), pooled, [hidden, labels])
  return b.finish('bert', {
    inputs: tokenInputs('input_ids', 'attention_mask', 'token_type_ids'),
    output: { name: 'logits', type: 'float32', shape: ['batch', labels] }
  })
}

const gemm = (b: Builder, x: string, [inputs, outputs]: readonly [number, number]): string =>
  b.emit('Gemm', [x, b.weight('weight', [outputs, inputs]), b.weight('bias', [outputs])], { transB: 1 })

function embed(b: Builder, { hidden, vocabulary, positions: count }: BertShape): string {
  const table = (name: string, rows: number, ids: string): string =>
    b.at(name).emit('Gather', [b.at(name).weight('weight', [rows, hidden]), ids])
  const words = table('word_embeddings', vocabulary, 'input_ids')
  const types = table('token_type_embeddings', 2, 'token_type_ids')
  const places = table('position_embeddings', count, positions(b, sequenceLength(b, 'input_ids')))
  const sum = b.emit('Add', [b.emit('Add', [words, types]), places])
  return b.at('LayerNorm').layerNorm(sum, hidden)
}

/** 0 where attention is allowed, the most negative float where it is not: [batch, 1, 1, sequence]. */
export function attentionBias(b: Builder): string {
  const wide = b.emit('Unsqueeze', ['attention_mask', b.ints([1, 2])])
  const open = b.emit('Cast', [wide], { to: 1 })
  const closed = b.emit('Sub', [b.float(1), open])
  return b.emit('Mul', [closed, b.float(-3.4028234663852886e38)])
}

/** What goes into a layer, and what is added to its scores. */
interface Masked {
  readonly x: string
  readonly mask: string
}

function encoderLayer(b: Builder, shape: BertShape, { x, mask }: Masked): string {
  const { hidden, intermediate } = shape
  const attended = selfAttention(b.at('attention.self'), shape, { x, mask })
  const [joined, output] = [b.at('attention.output'), b.at('output')]
  const mixed = joined.at('dense').linear(attended, [hidden, hidden])
  const normed = joined.at('LayerNorm').layerNorm(joined.emit('Add', [mixed, x]), hidden)
  const wide = gelu(b.at('intermediate'), b.at('intermediate.dense').linear(normed, [hidden, intermediate]))
  const narrow = output.at('dense').linear(wide, [intermediate, hidden])
  return output.at('LayerNorm').layerNorm(output.emit('Add', [narrow, normed]), hidden)
}

function selfAttention(b: Builder, { hidden, heads }: BertShape, { x, mask }: Masked): string {
  const width = hidden / heads
  const project = (name: string, perm: readonly number[]): string =>
    b.transpose(b.reshape(b.at(name).linear(x, [hidden, hidden]), [0, -1, heads, width]), perm)
  const query = project('query', [0, 2, 1, 3])
  const key = project('key', [0, 2, 3, 1])
  const value = project('value', [0, 2, 1, 3])
  const scaled = b.emit('Div', [b.emit('MatMul', [query, key]), b.float(Math.sqrt(width))])
  const weights = b.emit('Softmax', [b.emit('Add', [scaled, mask])], { axis: -1 })
  const context = b.transpose(b.emit('MatMul', [weights, value]), [0, 2, 1, 3])
  return b.reshape(context, [0, 0, hidden])
}

/** x (1 + erf(x / sqrt 2)) / 2, taken apart as opset 18 must. */
function gelu(b: Builder, x: string): string {
  const erf = b.emit('Erf', [b.emit('Div', [x, b.float(Math.SQRT2)])])
  const product = b.emit('Mul', [x, b.emit('Add', [erf, b.float(1)])])
  return b.emit('Mul', [product, b.float(0.5)])
}
