import { createExporter, type Exported, type Exporter, int, ints } from './exporter.js'
import {
  attend,
  causalMask,
  dim,
  embedding,
  fromHeads,
  gelu,
  geluTanh,
  layerNorm,
  repeatHeads,
  rmsNorm,
  type RmsOptions,
  rotary,
  type RotaryTables,
  rotaryTables,
  silu,
  toHeads,
  transpose,
  view
} from './patterns.js'

const [WIDTH, HEADS, SIZE, INNER, VOCABULARY, LAYERS] = [8, 2, 4, 12, 11, 2]

const layers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

const tokens = (e: Exporter) => ({
  ids: e.input('input_ids', 'int64', 'batch', 'sequence'),
  mask: e.input('attention_mask', 'int64', 'batch', 'sequence')
})

/** The head is the embedding table, read through a Transpose. */
const tiedHead = (e: Exporter, hidden: string, table: string): string =>
  e.within('lm_head', () => e.op('MatMul', [hidden, e.op('Transpose', [table], { perm: ints(1, 0) })]))

/** Learned positions behind an offset of two, counted from the mask; norms in front; ReLU. */
export function opt(): Exported {
  const e = createExporter('opt')
  const { ids, mask } = tokens(e)
  const hidden = e.within('model/decoder', () => {
    const bias = causalMask(e, ids, mask)
    const words = embedding(e, 'embed_tokens', ids, VOCABULARY, WIDTH)
    const counted = e.op('Mul', [e.op('CumSum', [mask, e.index(1)]), mask])
    const places = e.op('Add', [e.op('Sub', [counted, e.index(1)]), e.index(2)])
    let x = e.op('Add', [words, embedding(e, 'embed_positions', places, 12, WIDTH)])
    for (const layer of layers(LAYERS))
      x = e.within(`layers.${layer}`, () => {
        const normal = layerNorm(e, 'self_attn_layer_norm', x, WIDTH)
        const attended = e.within('self_attn', () => {
          const q = e.op('Mul', [e.linear('q_proj', normal, WIDTH, WIDTH), e.scalar(SIZE ** -0.5)])
          const part = (name: string): string => toHeads(e, e.linear(name, normal, WIDTH, WIDTH), HEADS, SIZE)
          const out = attend(e, toHeads(e, q, HEADS, SIZE), part('k_proj'), part('v_proj'), { mask: bias })
          return e.linear('out_proj', fromHeads(e, out, WIDTH), WIDTH, WIDTH)
        })
        const sum = e.op('Add', [x, attended])
        const inner = e.op('Relu', [e.linear('fc1', layerNorm(e, 'final_layer_norm', sum, WIDTH), WIDTH, INNER)])
        return e.op('Add', [sum, e.linear('fc2', inner, INNER, WIDTH)])
      })
    return layerNorm(e, 'final_layer_norm', x, WIDTH)
  })
  e.output('logits', tiedHead(e, hidden, 'model.decoder.embed_tokens.weight'))
  return e.finish()
}

/** One projection interleaves query, key and value by head; half of the features turn; attention and MLP in parallel. */
export function gptNeox(): Exported {
  const e = createExporter('gpt-neox')
  const { ids, mask } = tokens(e)
  const hidden = e.within('gpt_neox', () => {
    const bias = causalMask(e, ids, mask)
    const tables = rotaryTables(e, ids, SIZE / 2)
    let x = embedding(e, 'embed_in', ids, VOCABULARY, WIDTH)
    for (const layer of layers(LAYERS))
      x = e.within(`layers.${layer}`, () => {
        const normal = layerNorm(e, 'input_layernorm', x, WIDTH)
        const attended = e.within('attention', () => {
          const packed = e.linear('query_key_value', normal, WIDTH, 3 * WIDTH)
          const apart = transpose(e, view(e, packed, dim(e, packed, 0), dim(e, packed, 1), HEADS, 3 * SIZE), 0, 2, 1, 3)
          const [q = '', k = '', v = ''] = e.parts('Split', [apart, e.indices([SIZE, SIZE, SIZE])], 3, { axis: int(3) })
          const turned = (part: string): string => rotary(e, part, tables, SIZE, SIZE / 2)
          const out = attend(e, turned(q), turned(k), v, { divisor: Math.sqrt(SIZE), mask: bias })
          return e.linear('dense', fromHeads(e, out, WIDTH), WIDTH, WIDTH)
        })
        const other = layerNorm(e, 'post_attention_layernorm', x, WIDTH)
        const inner = e.within('mlp', () =>
          e.linear('dense_4h_to_h', gelu(e, e.linear('dense_h_to_4h', other, WIDTH, INNER)), INNER, WIDTH)
        )
        return e.op('Add', [e.op('Add', [inner, attended]), x])
      })
    return layerNorm(e, 'final_layer_norm', x, WIDTH)
  })
  e.output('logits', e.linear('embed_out', hidden, WIDTH, VOCABULARY, { bias: false }))
  return e.finish()
}

/** Attention and MLP in parallel behind one norm; half of the features turn; biases everywhere, on the head too. */
export function phi(): Exported {
  const e = createExporter('phi')
  const { ids, mask } = tokens(e)
  const hidden = e.within('model', () => {
    const bias = causalMask(e, ids, mask)
    const tables = rotaryTables(e, ids, SIZE / 2)
    let x = embedding(e, 'embed_tokens', ids, VOCABULARY, WIDTH)
    for (const layer of layers(LAYERS))
      x = e.within(`layers.${layer}`, () => {
        const normal = layerNorm(e, 'input_layernorm', x, WIDTH)
        const attended = e.within('self_attn', () => {
          const part = (name: string): string => toHeads(e, e.linear(name, normal, WIDTH, WIDTH), HEADS, SIZE)
          const turned = (name: string): string => rotary(e, part(name), tables, SIZE, SIZE / 2)
          const out = attend(e, turned('q_proj'), turned('k_proj'), part('v_proj'), {
            divisor: Math.sqrt(SIZE),
            mask: bias
          })
          return e.linear('dense', fromHeads(e, out, WIDTH), WIDTH, WIDTH)
        })
        const inner = e.within('mlp', () =>
          e.linear('fc2', geluTanh(e, e.linear('fc1', normal, WIDTH, INNER)), INNER, WIDTH)
        )
        return e.op('Add', [e.op('Add', [attended, inner]), x])
      })
    return layerNorm(e, 'final_layernorm', x, WIDTH)
  })
  e.output('logits', e.linear('lm_head', hidden, WIDTH, VOCABULARY))
  return e.finish()
}

interface LlamaLike {
  readonly seed: string
  readonly heads: number
  readonly groups: number
  readonly size: number
  readonly qkvBias?: boolean
  /** RMS norms over the features of each query and key head. */
  readonly headNorms?: boolean
  readonly window?: number
  readonly norm?: RmsOptions
  /** Gemma 2: scaled embeddings, norms on both sides, capped scores and logits, gated GELU. */
  readonly gemma?: boolean
}

const softcap = (e: Exporter, x: string, limit: number): string =>
  e.op('Mul', [e.op('Tanh', [e.op('Div', [x, e.scalar(limit)])]), e.scalar(limit)])

function llamaAttention(e: Exporter, x: string, bias: string, tables: RotaryTables, family: LlamaLike): string {
  const { heads, groups, size, qkvBias = false, headNorms = false, gemma = false } = family
  const part = (name: string, count: number): string =>
    view(e, e.linear(name, x, WIDTH, count * size, { bias: qkvBias }), dim(e, x, 0), dim(e, x, 1), count, size)
  const normed = (name: string, value: string): string =>
    headNorms ? rmsNorm(e, name, value, size, family.norm) : value
  const apart = (value: string): string => transpose(e, value, 0, 2, 1, 3)
  const q = rotary(e, apart(normed('q_norm', part('q_proj', heads))), tables, size)
  const k = rotary(e, apart(normed('k_norm', part('k_proj', groups))), tables, size)
  const repeated = (value: string): string =>
    groups === heads ? value : repeatHeads(e, value, groups, heads / groups, size)
  const out = attend(e, q, repeated(k), repeated(apart(part('v_proj', groups))), {
    divisor: Math.sqrt(size),
    mask: bias,
    cap: gemma ? (scores) => softcap(e, scores, 2) : undefined
  })
  return e.linear('o_proj', fromHeads(e, out, heads * size), heads * size, WIDTH, { bias: false })
}

function llamaMlp(e: Exporter, x: string, act: (e: Exporter, x: string) => string): string {
  const plain = { bias: false }
  const gate = act(e, e.linear('gate_proj', x, WIDTH, INNER, plain))
  return e.linear('down_proj', e.op('Mul', [gate, e.linear('up_proj', x, WIDTH, INNER, plain)]), INNER, WIDTH, plain)
}

function llamaLike(family: LlamaLike): Exported {
  const { seed, size, window, norm, gemma = false } = family
  const e = createExporter(seed)
  const { ids, mask } = tokens(e)
  const hidden = e.within('model', () => {
    const wide = (width?: number): string => causalMask(e, ids, mask, width === undefined ? {} : { window: width })
    const tables = rotaryTables(e, ids, size)
    const words = embedding(e, 'embed_tokens', ids, VOCABULARY, WIDTH)
    let x = gemma ? e.op('Mul', [words, e.scalar(Math.sqrt(WIDTH))]) : words
    for (const layer of layers(LAYERS))
      x = e.within(`layers.${layer}`, () => {
        const bias = wide(gemma && layer % 2 === 1 ? undefined : window)
        const normal = rmsNorm(e, 'input_layernorm', x, WIDTH, norm)
        const out = e.within('self_attn', () => llamaAttention(e, normal, bias, tables, family))
        const attended = gemma ? rmsNorm(e, 'post_attention_layernorm', out, WIDTH, norm) : out
        const sum = e.op('Add', [x, attended])
        const name = gemma ? 'pre_feedforward_layernorm' : 'post_attention_layernorm'
        const second = rmsNorm(e, name, sum, WIDTH, norm)
        const inner = e.within('mlp', () => llamaMlp(e, second, gemma ? geluTanh : silu))
        return e.op('Add', [sum, gemma ? rmsNorm(e, 'post_feedforward_layernorm', inner, WIDTH, norm) : inner])
      })
    return rmsNorm(e, 'norm', x, WIDTH, norm)
  })
  const tied = gemma || family.headNorms === true
  const logits = tied
    ? tiedHead(e, hidden, 'model.embed_tokens.weight')
    : e.linear('lm_head', hidden, WIDTH, VOCABULARY, { bias: false })
  e.output('logits', gemma ? softcap(e, logits, 3) : logits)
  return e.finish()
}

export const mistral = (): Exported =>
  llamaLike({ seed: 'mistral', heads: 4, groups: 2, size: 2, window: 3, norm: { reciprocal: true } })

export const qwen2 = (): Exported => llamaLike({ seed: 'qwen2', heads: 4, groups: 2, size: 2, qkvBias: true })

/** Heads wider than the model over their number, normed, and a tied head. */
export const qwen3 = (): Exported =>
  llamaLike({ seed: 'qwen3', heads: 2, groups: 1, size: 6, headNorms: true, norm: { reciprocal: true } })

export const gemma2 = (): Exported =>
  llamaLike({
    seed: 'gemma2',
    heads: 2,
    groups: 1,
    size: 6,
    window: 3,
    gemma: true,
    norm: { fromOne: true, reciprocal: true }
  })
