import type { Graph } from '../../src/onnx/graph/graph.js'
import { attentionBias } from './bert.js'
import { type Builder, type GraphBuilder, positions, sequenceLength, tokenInputs } from './builder.js'

/** As in Hugging Face's GPT2Config. */
export interface Gpt2Shape {
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly vocabulary: number
  readonly positions: number
}

export const GPT2_SMALL: Gpt2Shape = { hidden: 768, layers: 12, heads: 12, vocabulary: 50257, positions: 1024 }

/** GPT2LMHeadModel (Radford et al. 2019), head tied to the embeddings: logits float32[batch, sequence, vocabulary]. */
export function buildGpt2(b: GraphBuilder, shape: Gpt2Shape): Graph {
  const { hidden, layers, vocabulary } = shape
  const decoder = b.at('transformer')
  const table = decoder.at('wte').weight('weight', [vocabulary, hidden])
  const places = decoder.at('wpe').weight('weight', [shape.positions, hidden])
  const steps = positions(decoder, sequenceLength(decoder, 'input_ids'))
  const words = decoder.at('wte').emit('Gather', [table, 'input_ids'])
  let x = decoder.emit('Add', [words, decoder.at('wpe').emit('Gather', [places, steps])])
  const common: Common = { shape, padding: attentionBias(decoder), causal: causalMask(decoder, steps) }
  for (let layer = 0; layer < layers; layer++) x = block(decoder.at(`h.${layer}`), x, common)
  x = decoder.at('ln_f').layerNorm(x, hidden)
  const head = b.at('lm_head')
  head.emit('MatMul', [x, head.transpose(table, [1, 0])])
  return b.finish('gpt2', {
    inputs: tokenInputs('input_ids', 'attention_mask'),
    output: { name: 'logits', type: 'float32', shape: ['batch', 'sequence', vocabulary] }
  })
}

/** The same for all layers. */
interface Common {
  readonly shape: Gpt2Shape
  /** Added to the scores, [batch, 1, 1, sequence]. */
  readonly padding: string
  /** bool[sequence, sequence], true on and below the diagonal. */
  readonly causal: string
}

/** steps int64[1, sequence] -> bool[sequence, sequence]. */
export function causalMask(b: Builder, steps: string): string {
  return b.emit('LessOrEqual', [steps, b.transpose(steps, [1, 0])])
}

function block(b: Builder, x: string, common: Common): string {
  const { hidden } = common.shape
  const attended = attention(b.at('attn'), b.at('ln_1').layerNorm(x, hidden), common)
  const first = b.emit('Add', [attended, x])
  const wide = conv1d(b.at('mlp.c_fc'), b.at('ln_2').layerNorm(first, hidden), [hidden, 4 * hidden])
  const narrow = conv1d(b.at('mlp.c_proj'), geluNew(b.at('mlp.act'), wide), [4 * hidden, hidden])
  return b.emit('Add', [first, narrow])
}

/** Hugging Face's Conv1D: a linear layer that keeps its weight as [in, out]. */
function conv1d(b: Builder, x: string, [inputs, outputs]: readonly [number, number]): string {
  const rows = b.reshape(x, [-1, inputs])
  const weight = b.weight('weight', [inputs, outputs])
  const y = b.emit('Gemm', [rows, weight, b.weight('bias', [outputs])])
  const lead = b.emit('Slice', [b.emit('Shape', ['input_ids']), b.ints([0]), b.ints([2]), b.ints([0])])
  return b.emit('Reshape', [y, b.emit('Concat', [lead, b.ints([outputs])], { axis: 0 })])
}

function attention(b: Builder, x: string, { shape: { hidden, heads }, padding, causal }: Common): string {
  const width = hidden / heads
  const parts = b.split(conv1d(b.at('c_attn'), x, [hidden, 3 * hidden]), [hidden, hidden, hidden], 2)
  const head = (index: number, perm: readonly number[]): string =>
    b.transpose(b.reshape(parts[index] as string, [0, -1, heads, width]), perm)
  const [query, key, value] = [head(0, [0, 2, 1, 3]), head(1, [0, 2, 3, 1]), head(2, [0, 2, 1, 3])]
  const scaled = b.emit('Div', [b.emit('MatMul', [query, key]), b.float(Math.sqrt(width))])
  const kept = b.emit('Where', [causal, scaled, b.float(-3.4028234663852886e38)])
  const weights = b.emit('Softmax', [b.emit('Add', [kept, padding])], { axis: -1 })
  const context = b.transpose(b.emit('MatMul', [weights, value]), [0, 2, 1, 3])
  return conv1d(b.at('c_proj'), b.reshape(context, [0, 0, hidden]), [hidden, hidden])
}

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), taken apart as exporters do. */
function geluNew(b: Builder, x: string): string {
  const cube = b.emit('Mul', [b.emit('Pow', [x, b.float(3)]), b.float(0.044715)])
  const inner = b.emit('Mul', [b.emit('Add', [x, cube]), b.float(Math.sqrt(2 / Math.PI))])
  const shifted = b.emit('Add', [b.emit('Tanh', [inner]), b.float(1)])
  return b.emit('Mul', [b.emit('Mul', [x, b.float(0.5)]), shifted])
}
