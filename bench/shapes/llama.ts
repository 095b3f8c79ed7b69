import type { Graph } from '../../src/onnx/graph/graph.js'
import { attentionBias } from './bert.js'
import { type Builder, positions, sequenceLength, tokenInputs } from './builder.js'
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
export function buildLlama(b: Builder, shape: LlamaShape): Graph {
  const { hidden, layers, vocabulary } = shape
  const steps = positions(b, 'model', sequenceLength(b, 'model', 'input_ids'))
  const table = b.weight('model.embed_tokens.weight', [vocabulary, hidden])
  let x = b.emit('Gather', 'model.embed_tokens', [table, 'input_ids'])
  const rotary = rotaryTables(b, shape, steps)
  const mask = { padding: attentionBias(b, 'model'), causal: causalMask(b, 'model', steps) }
  for (let layer = 0; layer < layers; layer++) {
    const path = `model.layers.${layer}`
    const normed = rmsNorm(b, `${path}.input_layernorm`, x, hidden)
    const first = b.emit('Add', path, [x, attention(b, shape, `${path}.self_attn`, normed, { ...rotary, ...mask })])
    const after = rmsNorm(b, `${path}.post_attention_layernorm`, first, hidden)
    x = b.emit('Add', path, [first, mlp(b, shape, `${path}.mlp`, after)])
  }
  b.linear('lm_head', rmsNorm(b, 'model.norm', x, hidden), [hidden, vocabulary], false)
  return b.finish('llama', {
    inputs: tokenInputs('input_ids', 'attention_mask'),
    output: { name: 'logits', type: 'float32', shape: ['batch', 'sequence', vocabulary] }
  })
}

interface Context {
  readonly cos: string
  readonly sin: string
  readonly padding: string
  readonly causal: string
}

/** cos and sin [1, 1, sequence, head width], both halves alike. */
function rotaryTables(b: Builder, { hidden, heads }: LlamaShape, steps: string): { cos: string; sin: string } {
  const path = 'model.rotary_emb'
  const width = hidden / heads
  const places = b.emit('Unsqueeze', path, [b.emit('Cast', path, [steps], { to: 1 }), b.ints([1, 3])])
  const angles = Array.from({ length: width / 2 }, (_, i) =>
    b.emit('Mul', path, [places, b.float(10000 ** ((-2 * i) / width))])
  )
  const both = b.emit('Concat', path, [...angles, ...angles], { axis: -1 })
  return { cos: b.emit('Cos', path, [both]), sin: b.emit('Sin', path, [both]) }
}

function rmsNorm(b: Builder, path: string, x: string, size: number): string {
  const mean = b.emit('ReduceMean', path, [b.emit('Pow', path, [x, b.float(2)]), b.ints([-1])])
  const root = b.emit('Sqrt', path, [b.emit('Add', path, [mean, b.float(1e-5)])])
  const normed = b.emit('Mul', path, [x, b.emit('Reciprocal', path, [root])])
  return b.emit('Mul', path, [b.ones(`${path}.weight`, size), normed])
}

function attention(b: Builder, shape: LlamaShape, path: string, x: string, context: Context): string {
  const { hidden, heads, keyValueHeads } = shape
  const width = hidden / heads
  const project = (name: string, count: number): string => {
    const y = b.linear(`${path}.${name}`, x, [hidden, count * width], false)
    return b.transpose(path, b.reshape(path, y, [0, -1, count, width]), [0, 2, 1, 3])
  }
  const groups = heads / keyValueHeads
  const query = rotate(b, path, project('q_proj', heads), width, context)
  const key = repeat(b, path, rotate(b, path, project('k_proj', keyValueHeads), width, context), [groups, shape])
  const value = repeat(b, path, project('v_proj', keyValueHeads), [groups, shape])
  const scores = b.emit('MatMul', path, [query, b.transpose(path, key, [0, 1, 3, 2])])
  const scaled = b.emit('Mul', path, [scores, b.float(1 / Math.sqrt(width))])
  const masked = b.emit('Where', path, [context.causal, scaled, b.float(-3.4028234663852886e38)])
  const weights = b.emit('Softmax', path, [b.emit('Add', path, [masked, context.padding])], { axis: -1 })
  const mixed = b.transpose(path, b.emit('MatMul', path, [weights, value]), [0, 2, 1, 3])
  return b.linear(`${path}.o_proj`, b.reshape(path, mixed, [0, 0, hidden]), [hidden, hidden], false)
}

/** x cos + rotate_half(x) sin. */
function rotate(b: Builder, path: string, x: string, width: number, { cos, sin }: Context): string {
  const half = (start: number, end: number): string =>
    b.emit('Slice', path, [x, b.ints([start]), b.ints([end]), b.ints([3]), b.ints([1])])
  const turned = b.emit('Concat', path, [b.emit('Neg', path, [half(width / 2, width)]), half(0, width / 2)], {
    axis: -1
  })
  return b.emit('Add', path, [b.emit('Mul', path, [x, cos]), b.emit('Mul', path, [turned, sin])])
}

/** Hugging Face's repeat_kv: [batch, kv, sequence, width] -> [batch, heads, sequence, width] by Expand. */
function repeat(b: Builder, path: string, x: string, [groups, shape]: readonly [number, LlamaShape]): string {
  const { hidden, heads, keyValueHeads } = shape
  const apart = b.emit('Unsqueeze', path, [x, b.ints([2])])
  const wide = b.emit('Expand', path, [apart, b.ints([1, keyValueHeads, groups, 1, 1])])
  return b.reshape(path, wide, [0, heads, -1, hidden / heads])
}

function mlp(b: Builder, { hidden, intermediate }: LlamaShape, path: string, x: string): string {
  const gate = b.linear(`${path}.gate_proj`, x, [hidden, intermediate], false)
  const up = b.linear(`${path}.up_proj`, x, [hidden, intermediate], false)
  const silu = b.emit('Mul', `${path}.act_fn`, [gate, b.emit('Sigmoid', `${path}.act_fn`, [gate])])
  return b.linear(`${path}.down_proj`, b.emit('Mul', path, [silu, up]), [intermediate, hidden], false)
}
