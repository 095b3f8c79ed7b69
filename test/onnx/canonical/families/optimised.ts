import { createExporter, type Exported, type Exporter, int, real } from './exporter.js'
import { dim, embedding, layerNorm, pick, silu } from './patterns.js'

const [WIDTH, INNER, VOCABULARY, CLASSES, LAYERS] = [16, 12, 11, 3, 2]

const layers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

const INT32 = int(6)

/** A decoder as generation runtimes keep it: grouped attention with rotary tables and a cache, fused skip norms. */
export function cachedDecoder(): Exported {
  const [heads, groups, size] = [2, 1, 16]
  const e = createExporter('cached decoder')
  const ids = e.input('input_ids', 'int64', 'batch', 'sequence')
  const mask = e.input('attention_mask', 'int64', 'batch', 'total')
  const past = layers(LAYERS).map((layer) =>
    ['key', 'value'].map((part) =>
      e.input(`past_key_values.${layer}.${part}`, 'float32', 'batch', groups, 'past', size)
    )
  )
  const total = e.op('Cast', [dim(e, mask, 1)], { to: INT32 })
  const counted = e.op('ReduceSum', [mask, e.indices([1])], { keepdims: int(0) })
  const lengths = e.op('Cast', [e.op('Sub', [counted, e.index(1)])], { to: INT32 })
  const table = (f: (x: number) => number): string =>
    e.floats(
      layers(9 * (size / 2)).map((i) => f(Math.floor(i / (size / 2)) / 100 ** ((2 * (i % (size / 2))) / size))),
      [9, size / 2]
    )
  const tables = [table(Math.cos), table(Math.sin)]
  const plain = { bias: false }
  let residual = e.within('model', () => embedding(e, 'embed_tokens', ids, VOCABULARY, WIDTH))
  let normal = e.within('model/layers.0/input_layernorm', () =>
    e.op('SimplifiedLayerNormalization', [residual, e.weight('weight', [WIDTH], 1)], {
      axis: int(-1),
      epsilon: real(1e-5)
    })
  )
  const skipNorm = (name: string, value: string): void => {
    const [normed = '', , , sum = ''] = e.within(name, () =>
      e.contrib(
        'SkipSimplifiedLayerNormalization',
        [residual, value, e.weight('weight', [WIDTH], 1)],
        { epsilon: real(1e-5) },
        4
      )
    )
    normal = normed
    residual = sum
  }
  for (const layer of layers(LAYERS))
    e.within(`model/layers.${layer}`, () => {
      const attended = e.within('attn', () => {
        const part = (name: string, width: number): string => e.linear(name, normal, WIDTH, width, plain)
        const inputs = [part('q_proj', heads * size), part('k_proj', groups * size), part('v_proj', groups * size)]
        const [out = '', key = '', value = ''] = e.contrib(
          'GroupQueryAttention',
          [...inputs, ...(past[layer] as string[]), lengths, total, ...tables],
          { num_heads: int(heads), kv_num_heads: int(groups), do_rotary: int(1) },
          3
        )
        e.output(`present.${layer}.key`, key)
        e.output(`present.${layer}.value`, value)
        return e.linear('o_proj', out, heads * size, WIDTH, plain)
      })
      skipNorm('post_attention_layernorm', attended)
      const inner = e.within('mlp', () => {
        const wide = e.op('Mul', [
          silu(e, e.linear('gate_proj', normal, WIDTH, INNER, plain)),
          e.linear('up_proj', normal, WIDTH, INNER, plain)
        ])
        return e.linear('down_proj', wide, INNER, WIDTH, plain)
      })
      skipNorm(layer + 1 < LAYERS ? `../layers.${layer + 1}/input_layernorm` : 'final_norm', inner)
    })
  e.output('logits', e.linear('lm_head', normal, WIDTH, VOCABULARY, plain))
  return e.finish()
}

/** An encoder after graph optimisation: fused embeddings, packed attention, skip norms and GELU with their biases. */
export function optimisedEncoder(): Exported {
  const heads = 2
  const e = createExporter('optimised encoder')
  const ids = e.op('Cast', [e.input('input_ids', 'int64', 'batch', 'sequence')], { to: INT32 })
  const mask = e.op('Cast', [e.input('attention_mask', 'int64', 'batch', 'sequence')], { to: INT32 })
  const kinds = e.op('Cast', [e.op('Sub', ['attention_mask', 'attention_mask'])], { to: INT32 })
  let x = e.within('bert/embeddings', () => {
    const tables = [VOCABULARY, 9, 2].map((rows, i) =>
      e.weight(`${['word', 'position', 'type'][i]}_embeddings.weight`, [rows, WIDTH])
    )
    const norm = [e.weight('LayerNorm.weight', [WIDTH], 1), e.weight('LayerNorm.bias', [WIDTH])]
    return e.contrib(
      'EmbedLayerNormalization',
      [ids, kinds, ...tables, ...norm],
      { epsilon: real(1e-12) },
      2
    )[0] as string
  })
  for (const layer of layers(LAYERS))
    x = e.within(`bert/encoder/layer.${layer}`, () => {
      const attended = e.within('attention', () => {
        const weights = [e.weight('qkv.weight', [WIDTH, 3 * WIDTH]), e.weight('qkv.bias', [3 * WIDTH])]
        const [out = ''] = e.within('self', () =>
          e.contrib('Attention', [x, ...weights, mask], { num_heads: int(heads) })
        )
        return skip(
          e,
          'output',
          e.within('output', () => e.linear('dense', out, WIDTH, WIDTH, { bias: false })),
          x
        )
      })
      const wide = e.within('intermediate', () => {
        const product = e.linear('dense', attended, WIDTH, INNER, { bias: false })
        return e.contrib('BiasGelu', [product, e.weight('dense.bias', [INNER])])[0] as string
      })
      return skip(
        e,
        'output',
        e.within('output', () => e.linear('dense', wide, INNER, WIDTH, { bias: false })),
        attended
      )
    })
  const pooled = e.op('Tanh', [
    e.linear('pooler', pick(e, layerNorm(e, 'norm', x, WIDTH), 0), WIDTH, WIDTH, { matrix: true })
  ])
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

function skip(e: Exporter, name: string, value: string, x: string): string {
  return e.within(`${name}/LayerNorm`, () => {
    const inputs = [value, x, e.weight('weight', [WIDTH], 1), e.weight('bias', [WIDTH]), e.weight('added', [WIDTH])]
    return e.contrib('SkipLayerNormalization', inputs, { epsilon: real(1e-12) })[0] as string
  })
}
