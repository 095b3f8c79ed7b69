import type { Graph } from '../../src/onnx/graph/graph.js'
import { attentionBias } from './bert.js'
import { type Builder, type GraphBuilder, positions, sequenceLength, tokenInputs } from './builder.js'
import { causalMask } from './gpt2.js'

/** As in Hugging Face's LlamaConfig. */
export interface LlamaShape {
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly intermediate: number
  readonly vocabulary: number
}

export const LLAMA_MINI: LlamaShape = {
  hidden: 512,
  layers: 4,
  heads: 8,
  keyValueHeads: 2,
  intermediate: 1376,
  vocabulary: 4096
}

/** TinyLlama's 1.1 billion parameters. */
export const LLAMA_1B: LlamaShape = {
  hidden: 2048,
  layers: 22,
  heads: 32,
  keyValueHeads: 4,
  intermediate: 5632,
  vocabulary: 32000
}

/** LlamaForCausalLM (Touvron et al. 2023) with grouped queries: logits float32[batch, sequence, vocabulary]. */
export function buildLlama(b: GraphBuilder, shape: LlamaShape): Graph {
  const { hidden, layers, vocabulary } = shape
  const model = b.at('model')
  const steps = positions(model, sequenceLength(model, 'input_ids'))
  const tokens = model.at('embed_tokens')
  let x = tokens.emit('Gather', [tokens.weight('weight', [vocabulary, hidden]), 'input_ids'])
  const rotary = rotaryTables(model.at('rotary_emb'), shape, steps)
  const common: Common = { shape, ...rotary, padding: attentionBias(model), causal: causalMask(model, steps) }
  for (let layer = 0; layer < layers; layer++) x = decoderLayer(model.at(`layers.${layer}`), x, common)
  b.at('lm_head').linear(rmsNorm(model.at('norm'), x, hidden), [hidden, vocabulary], false)
  return b.finish('llama', {
    inputs: tokenInputs('input_ids', 'attention_mask'),
    output: { name: 'logits', type: 'float32', shape: ['batch', 'sequence', vocabulary] }
  })
}

/** cos and sin [1, 1, sequence, head width], both halves alike. */
interface Rotary {
  readonly cos: string
  readonly sin: string
}

/** The same for all layers. */
interface Common extends Rotary {
  readonly shape: LlamaShape
  readonly padding: string
  readonly causal: string
}

function rotaryTables(b: Builder, { hidden, heads }: LlamaShape, steps: string): Rotary {
  const width = hidden / heads
  const places = b.emit('Unsqueeze', [b.emit('Cast', [steps], { to: 1 }), b.ints([1, 3])])
  const angles = Array.from({ length: width / 2 }, (_, i) =>
    b.emit('Mul', [places, b.float(10000 ** ((-2 * i) / width))])
  )
  const both = b.emit('Concat', [...angles, ...angles], { axis: -1 })
  return { cos: b.emit('Cos', [both]), sin: b.emit('Sin', [both]) }
}

function decoderLayer(b: Builder, x: string, common: Common): string {
  const { shape } = common
  const normed = rmsNorm(b.at('input_layernorm'), x, shape.hidden)
  const first = b.emit('Add', [x, attention(b.at('self_attn'), normed, common)])
  const after = rmsNorm(b.at('post_attention_layernorm'), first, shape.hidden)
  return b.emit('Add', [first, mlp(b.at('mlp'), after, shape)])
}

function rmsNorm(b: Builder, x: string, size: number): string {
  const mean = b.emit('ReduceMean', [b.emit('Pow', [x, b.float(2)]), b.ints([-1])])
  const root = b.emit('Sqrt', [b.emit('Add', [mean, b.float(1e-5)])])
  const normed = b.emit('Mul', [x, b.emit('Reciprocal', [root])])
  return b.emit('Mul', [b.ones('weight', size), normed])
}

function attention(b: Builder, x: string, common: Common): string {
  const { hidden, heads, keyValueHeads } = common.shape
  const width = hidden / heads
  const project = (name: string, count: number): string =>
    b.transpose(b.reshape(b.at(name).linear(x, [hidden, count * width], false), [0, -1, count, width]), [0, 2, 1, 3])
  const query = rotate(b, project('q_proj', heads), common)
  const key = repeat(b, rotate(b, project('k_proj', keyValueHeads), common), common.shape)
  const value = repeat(b, project('v_proj', keyValueHeads), common.shape)
  const scores = b.emit('MatMul', [query, b.transpose(key, [0, 1, 3, 2])])
  const scaled = b.emit('Mul', [scores, b.float(1 / Math.sqrt(width))])
  const masked = b.emit('Where', [common.causal, scaled, b.float(-3.4028234663852886e38)])
  const weights = b.emit('Softmax', [b.emit('Add', [masked, common.padding])], { axis: -1 })
  const mixed = b.transpose(b.emit('MatMul', [weights, value]), [0, 2, 1, 3])
  return b.at('o_proj').linear(b.reshape(mixed, [0, 0, hidden]), [hidden, hidden], false)
}

/** x cos + rotate_half(x) sin. */
function rotate(b: Builder, x: string, { shape, cos, sin }: Common): string {
  const width = shape.hidden / shape.heads
  const half = (start: number, end: number): string =>
    b.emit('Slice', [x, b.ints([start]), b.ints([end]), b.ints([3]), b.ints([1])])
  const turned = b.emit('Concat', [b.emit('Neg', [half(width / 2, width)]), half(0, width / 2)], { axis: -1 })
  return b.emit('Add', [b.emit('Mul', [x, cos]), b.emit('Mul', [turned, sin])])
}

/** Hugging Face's repeat_kv: [batch, kv, sequence, width] -> [batch, heads, sequence, width] by Expand. */
function repeat(b: Builder, x: string, { hidden, heads, keyValueHeads }: LlamaShape): string {
  const apart = b.emit('Unsqueeze', [x, b.ints([2])])
  const wide = b.emit('Expand', [apart, b.ints([1, keyValueHeads, heads / keyValueHeads, 1, 1])])
  return b.reshape(wide, [0, heads, -1, hidden / heads])
}

function mlp(b: Builder, x: string, { hidden, intermediate }: LlamaShape): string {
  const gate = b.at('gate_proj').linear(x, [hidden, intermediate], false)
  const up = b.at('up_proj').linear(x, [hidden, intermediate], false)
  const silu = b.at('act_fn').emit('Mul', [gate, b.at('act_fn').emit('Sigmoid', [gate])])
  return b.at('down_proj').linear(b.emit('Mul', [silu, up]), [intermediate, hidden], false)
}
