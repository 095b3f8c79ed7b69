import type { Graph } from '../../src/onnx/graph/graph.js'
import { attentionBias } from './bert.js'
import { type Builder, positions, sequenceLength, tokenInputs } from './builder.js'

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
export function buildGpt2(b: Builder, shape: Gpt2Shape): Graph {
  const { hidden, layers, vocabulary } = shape
  const path = 'transformer'
  const table = b.weight(`${path}.wte.weight`, [vocabulary, hidden])
  const places = b.weight(`${path}.wpe.weight`, [shape.positions, hidden])
  const steps = positions(b, path, sequenceLength(b, path, 'input_ids'))
  const words = b.emit('Gather', `${path}.wte`, [table, 'input_ids'])
  let x = b.emit('Add', path, [words, b.emit('Gather', `${path}.wpe`, [places, steps])])
  const mask = { padding: attentionBias(b, path), causal: causalMask(b, path, steps) }
  for (let layer = 0; layer < layers; layer++) x = block(b, shape, `${path}.h.${layer}`, x, mask)
  x = b.layerNorm(`${path}.ln_f`, x, hidden)
  b.emit('MatMul', 'lm_head', [x, b.transpose('lm_head', table, [1, 0])])
  return b.finish('gpt2', {
    inputs: tokenInputs('input_ids', 'attention_mask'),
    output: { name: 'logits', type: 'float32', shape: ['batch', 'sequence', vocabulary] }
  })
}

interface Mask {
  /** Added to the scores, [batch, 1, 1, sequence]. */
  readonly padding: string
  /** bool[sequence, sequence], true on and below the diagonal. */
  readonly causal: string
}

/** steps int64[1, sequence] -> bool[sequence, sequence]. */
export function causalMask(b: Builder, path: string, steps: string): string {
  return b.emit('LessOrEqual', path, [steps, b.transpose(path, steps, [1, 0])])
}

function block(b: Builder, shape: Gpt2Shape, path: string, x: string, mask: Mask): string {
  const { hidden } = shape
  const attended = attention(b, shape, `${path}.attn`, b.layerNorm(`${path}.ln_1`, x, hidden), mask)
  const first = b.emit('Add', path, [attended, x])
  const wide = conv1d(b, `${path}.mlp.c_fc`, b.layerNorm(`${path}.ln_2`, first, hidden), [hidden, 4 * hidden])
  const narrow = conv1d(b, `${path}.mlp.c_proj`, geluNew(b, `${path}.mlp.act`, wide), [4 * hidden, hidden])
  return b.emit('Add', path, [first, narrow])
}

/** Hugging Face's Conv1D: a linear layer that keeps its weight as [in, out]. */
function conv1d(b: Builder, path: string, x: string, [inputs, outputs]: readonly [number, number]): string {
  const rows = b.reshape(path, x, [-1, inputs])
  const weight = b.weight(`${path}.weight`, [inputs, outputs])
  const y = b.emit('Gemm', path, [rows, weight, b.weight(`${path}.bias`, [outputs])])
  const lead = b.emit('Slice', path, [b.emit('Shape', path, ['input_ids']), b.ints([0]), b.ints([2]), b.ints([0])])
  return b.emit('Reshape', path, [y, b.emit('Concat', path, [lead, b.ints([outputs])], { axis: 0 })])
}

function attention(b: Builder, { hidden, heads }: Gpt2Shape, path: string, x: string, mask: Mask): string {
  const width = hidden / heads
  const parts = b.emit(
    'Split',
    path,
    [conv1d(b, `${path}.c_attn`, x, [hidden, 3 * hidden]), b.ints([hidden, hidden, hidden])],
    { axis: 2 },
    3
  )
  const head = (index: number, perm: readonly number[]): string =>
    b.transpose(path, b.reshape(path, parts.replace(/0$/, String(index)), [0, -1, heads, width]), perm)
  const [query, key, value] = [head(0, [0, 2, 1, 3]), head(1, [0, 2, 3, 1]), head(2, [0, 2, 1, 3])]
  const scaled = b.emit('Div', path, [b.emit('MatMul', path, [query, key]), b.float(Math.sqrt(width))])
  const causal = b.emit('Where', path, [mask.causal, scaled, b.float(-3.4028234663852886e38)])
  const weights = b.emit('Softmax', path, [b.emit('Add', path, [causal, mask.padding])], { axis: -1 })
  const context = b.transpose(path, b.emit('MatMul', path, [weights, value]), [0, 2, 1, 3])
  return conv1d(b, `${path}.c_proj`, b.reshape(path, context, [0, 0, hidden]), [hidden, hidden])
}

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), taken apart as exporters do. */
function geluNew(b: Builder, path: string, x: string): string {
  const cube = b.emit('Mul', path, [b.emit('Pow', path, [x, b.float(3)]), b.float(0.044715)])
  const inner = b.emit('Mul', path, [b.emit('Add', path, [x, cube]), b.float(Math.sqrt(2 / Math.PI))])
  const shifted = b.emit('Add', path, [b.emit('Tanh', path, [inner]), b.float(1)])
  return b.emit('Mul', path, [b.emit('Mul', path, [x, b.float(0.5)]), shifted])
}
