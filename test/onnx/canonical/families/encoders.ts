import { createExporter, type Exported, type Exporter, int, ints, TO } from './exporter.js'
import {
  attend,
  causalMask,
  dim,
  embedding,
  fromHeads,
  gelu,
  geluTanh,
  layerNorm,
  mean,
  paddingMask,
  pick,
  quickGelu,
  rmsNorm,
  toHeads,
  transpose,
  unsqueeze
} from './patterns.js'

const [WIDTH, HEADS, SIZE, INNER, VOCABULARY, CLASSES, LAYERS] = [8, 2, 4, 12, 11, 3, 2]

const layers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

const tokens = (e: Exporter) => ({
  ids: e.input('input_ids', 'int64', 'batch', 'sequence'),
  mask: e.input('attention_mask', 'int64', 'batch', 'sequence')
})

/** x[:, :n] of a position table, n from the shape of the ids. */
function positionRows(e: Exporter, ids: string): string {
  const all = e.indices(layers(10), [1, 10])
  const length = unsqueeze(e, dim(e, ids, 1), 0)
  const rows = e.op('Slice', [all, e.indices([0]), length, e.indices([1]), e.indices([1])])
  return e.within('position_embeddings', () => e.op('Gather', [e.weight('weight', [10, WIDTH]), rows]))
}

export function distilbert(): Exported {
  const e = createExporter('distilbert')
  const { ids, mask } = tokens(e)
  const hidden = e.within('distilbert', () => {
    let x = e.within('embeddings', () => {
      const sum = e.op('Add', [embedding(e, 'word_embeddings', ids, VOCABULARY, WIDTH), positionRows(e, ids)])
      return layerNorm(e, 'LayerNorm', sum, WIDTH, 1e-12)
    })
    for (const layer of layers(LAYERS)) x = e.within(`transformer/layer.${layer}`, () => distilbertLayer(e, x, mask))
    return x
  })
  const pooled = e.op('Relu', [e.linear('pre_classifier', pick(e, hidden, 0), WIDTH, WIDTH, { matrix: true })])
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

function distilbertLayer(e: Exporter, x: string, mask: string): string {
  const attended = e.within('attention', () => {
    const part = (name: string): string => toHeads(e, e.linear(name, x, WIDTH, WIDTH), HEADS, SIZE)
    const q = e.op('Div', [part('q_lin'), e.scalar(Math.sqrt(SIZE))])
    const products = e.op('MatMul', [q, transpose(e, part('k_lin'), 0, 1, 3, 2)])
    const blank = unsqueeze(e, e.op('Equal', [mask, e.index(0)]), 1, 2)
    const expanded = e.op('Expand', [blank, e.op('Shape', [products])])
    const scores = e.op('Where', [expanded, e.scalar(-3.4028234663852886e38), products])
    const out = e.op('MatMul', [e.op('Softmax', [scores], { axis: int(-1) }), part('v_lin')])
    return e.linear('out_lin', fromHeads(e, out, WIDTH), WIDTH, WIDTH)
  })
  const first = layerNorm(e, 'sa_layer_norm', e.op('Add', [attended, x]), WIDTH, 1e-12)
  const inner = e.within('ffn', () => e.linear('lin2', gelu(e, e.linear('lin1', first, WIDTH, INNER)), INNER, WIDTH))
  return layerNorm(e, 'output_layer_norm', e.op('Add', [inner, first]), WIDTH, 1e-12)
}

interface BertLayerOptions {
  readonly activation?: (e: Exporter, x: string) => string
}

/** The encoder layer of BERT, RoBERTa and ELECTRA. */
function bertLayer(e: Exporter, x: string, mask: string, { activation = gelu }: BertLayerOptions = {}): string {
  const attended = e.within('attention', () => {
    const out = e.within('self', () => {
      const part = (name: string): string => toHeads(e, e.linear(name, x, WIDTH, WIDTH), HEADS, SIZE)
      const mixed = attend(e, part('query'), part('key'), part('value'), { divisor: Math.sqrt(SIZE), mask })
      return fromHeads(e, mixed, WIDTH)
    })
    return e.within('output', () =>
      layerNorm(e, 'LayerNorm', e.op('Add', [e.linear('dense', out, WIDTH, WIDTH), x]), WIDTH, 1e-12)
    )
  })
  const inner = activation(
    e,
    e.within('intermediate', () => e.linear('dense', attended, WIDTH, INNER))
  )
  return e.within('output', () =>
    layerNorm(e, 'LayerNorm', e.op('Add', [e.linear('dense', inner, INNER, WIDTH), attended]), WIDTH, 1e-12)
  )
}

/** Positions count the tokens that are no padding, from the padding's own index on. */
export function roberta(): Exported {
  const padding = 1
  const e = createExporter('roberta')
  const { ids, mask } = tokens(e)
  const hidden = e.within('roberta', () => {
    const bias = paddingMask(e, mask)
    let x = e.within('embeddings', () => {
      const real = e.op('Cast', [e.op('Not', [e.op('Equal', [ids, e.index(padding)])])], { to: TO.int64 })
      const counted = e.op('Mul', [e.op('CumSum', [real, e.index(1)]), real])
      const places = e.op('Add', [counted, e.index(padding)])
      const kinds = e.op('Expand', [e.indices([0], [1, 1]), e.op('Shape', [ids])])
      const words = embedding(e, 'word_embeddings', ids, VOCABULARY, WIDTH)
      const typed = e.op('Add', [words, embedding(e, 'token_type_embeddings', kinds, 1, WIDTH)])
      const sum = e.op('Add', [typed, embedding(e, 'position_embeddings', places, 10, WIDTH)])
      return layerNorm(e, 'LayerNorm', sum, WIDTH)
    })
    for (const layer of layers(LAYERS)) x = e.within(`encoder/layer.${layer}`, () => bertLayer(e, x, bias))
    return x
  })
  const logits = e.within('classifier', () => {
    const first = e.op('Tanh', [e.linear('dense', pick(e, hidden, 0), WIDTH, WIDTH, { matrix: true })])
    return e.linear('out_proj', first, WIDTH, CLASSES, { matrix: true })
  })
  e.output('logits', logits)
  return e.finish()
}

/** A narrow embedding, and one layer used three times. */
export function albert(): Exported {
  const narrow = 6
  const e = createExporter('albert')
  const { ids, mask } = tokens(e)
  const pooled = e.within('albert', () => {
    const bias = paddingMask(e, mask)
    const embedded = e.within('embeddings', () =>
      layerNorm(e, 'LayerNorm', embedding(e, 'word_embeddings', ids, VOCABULARY, narrow), narrow, 1e-12)
    )
    const hidden = e.within('encoder', () => {
      let x = e.linear('embedding_hidden_mapping_in', embedded, narrow, WIDTH)
      for (const _ of layers(3)) x = e.within('albert_layer_groups.0/albert_layers.0', () => albertLayer(e, x, bias))
      return x
    })
    return e.op('Tanh', [e.linear('pooler', pick(e, hidden, 0), WIDTH, WIDTH, { matrix: true })])
  })
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

function albertLayer(e: Exporter, x: string, mask: string): string {
  const attended = e.within('attention', () => {
    const part = (name: string): string => toHeads(e, e.linear(name, x, WIDTH, WIDTH), HEADS, SIZE)
    const out = attend(e, part('query'), part('key'), part('value'), { divisor: Math.sqrt(SIZE), mask })
    const projected = e.linear('dense', fromHeads(e, out, WIDTH), WIDTH, WIDTH)
    return layerNorm(e, 'LayerNorm', e.op('Add', [x, projected]), WIDTH, 1e-12)
  })
  const inner = geluTanh(e, e.linear('ffn', attended, WIDTH, INNER))
  const sum = e.op('Add', [e.linear('ffn_output', inner, INNER, WIDTH), attended])
  return layerNorm(e, 'full_layer_layer_norm', sum, WIDTH, 1e-12)
}

export function electra(): Exported {
  const narrow = 6
  const e = createExporter('electra')
  const { ids, mask } = tokens(e)
  const hidden = e.within('electra', () => {
    const bias = paddingMask(e, mask)
    const embedded = e.within('embeddings', () =>
      layerNorm(e, 'LayerNorm', embedding(e, 'word_embeddings', ids, VOCABULARY, narrow), narrow, 1e-12)
    )
    let x = e.linear('embeddings_project', embedded, narrow, WIDTH)
    for (const layer of layers(LAYERS)) x = e.within(`encoder/layer.${layer}`, () => bertLayer(e, x, bias))
    return x
  })
  const logits = e.within('classifier', () => {
    const first = gelu(e, e.linear('dense', pick(e, hidden, 0), WIDTH, WIDTH, { matrix: true }))
    return e.linear('out_proj', first, WIDTH, CLASSES, { matrix: true })
  })
  e.output('logits', logits)
  return e.finish()
}

/** Relative positions in buckets, no scale on the scores, norms and products without biases. */
export function t5Encoder(): Exported {
  const e = createExporter('t5')
  const { ids, mask } = tokens(e)
  const pooled = e.within('encoder', () => {
    const bias = paddingMask(e, mask)
    let x = embedding(e, 'embed_tokens', ids, VOCABULARY, WIDTH)
    let relative = ''
    for (const layer of layers(LAYERS))
      x = e.within(`block.${layer}`, () => {
        const attended = e.within('layer.0', () => {
          const normal = rmsNorm(e, 'layer_norm', x, WIDTH)
          return e.within('SelfAttention', () => {
            const part = (name: string): string =>
              toHeads(e, e.linear(name, normal, WIDTH, WIDTH, { bias: false }), HEADS, SIZE)
            if (layer === 0) relative = e.op('Add', [relativeBias(e, ids), bias])
            const out = attend(e, part('q'), part('k'), part('v'), { mask: relative })
            return e.linear('o', fromHeads(e, out, WIDTH), WIDTH, WIDTH, { bias: false })
          })
        })
        const sum = e.op('Add', [x, attended])
        const inner = e.within('layer.1', () => {
          const normal = rmsNorm(e, 'layer_norm', sum, WIDTH)
          return e.within('DenseReluDense', () => {
            const gate = geluTanh(e, e.linear('wi_0', normal, WIDTH, INNER, { bias: false }))
            const wide = e.op('Mul', [gate, e.linear('wi_1', normal, WIDTH, INNER, { bias: false })])
            return e.linear('wo', wide, INNER, WIDTH, { bias: false })
          })
        })
        return e.op('Add', [sum, inner])
      })
    return mean(e, rmsNorm(e, 'final_layer_norm', x, WIDTH), 1)
  })
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

/** Half of the buckets for each direction; exact up to half of those, logarithmic up to `far` beyond. */
function relativeBias(e: Exporter, ids: string): string {
  const [buckets, far] = [8, 6]
  const positions = e.op('Range', [e.index(0), dim(e, ids, 1), e.index(1)])
  const distance = e.op('Sub', [unsqueeze(e, positions, 0), unsqueeze(e, positions, 1)])
  const side = e.op('Mul', [
    e.op('Cast', [e.op('Greater', [distance, e.index(0)])], { to: TO.int64 }),
    e.index(buckets / 2)
  ])
  const away = e.op('Abs', [distance])
  const exact = buckets / 4
  const ratio = e.op('Log', [e.op('Div', [e.op('Cast', [away], { to: TO.float }), e.scalar(exact)])])
  const scaled = e.op('Mul', [e.op('Div', [ratio, e.scalar(Math.log(far / exact))]), e.scalar(buckets / 2 - exact)])
  const coarse = e.op('Add', [e.op('Cast', [scaled], { to: TO.int64 }), e.index(exact)])
  const bounded = e.op('Min', [coarse, e.index(buckets / 2 - 1)])
  const bucket = e.op('Add', [side, e.op('Where', [e.op('Less', [away, e.index(exact)]), away, bounded])])
  const values = embedding(e, 'relative_attention_bias', bucket, buckets, HEADS)
  return unsqueeze(e, transpose(e, values, 2, 0, 1), 0)
}

/** Two convolutions over the spectrogram, fixed positions, norms in front; keys have no bias. */
export function whisperEncoder(): Exported {
  const mel = 5
  const e = createExporter('whisper')
  const features = e.input('input_features', 'float32', 'batch', mel, 'frames')
  const hidden = e.within('encoder', () => {
    const conv = (name: string, x: string, from: number, stride: number): string =>
      gelu(
        e,
        e.within(name, () =>
          e.op('Conv', [x, e.weight('weight', [WIDTH, from, 3]), e.weight('bias', [WIDTH])], {
            kernel_shape: ints(3),
            strides: ints(stride),
            pads: ints(1, 1),
            dilations: ints(1),
            group: int(1)
          })
        )
      )
    const sound = transpose(e, conv('conv2', conv('conv1', features, mel, 1), WIDTH, 2), 0, 2, 1)
    let x = e.op('Add', [sound, e.within('embed_positions', () => e.weight('weight', [5, WIDTH]))])
    for (const layer of layers(LAYERS)) x = e.within(`layers.${layer}`, () => whisperLayer(e, x))
    return layerNorm(e, 'layer_norm', x, WIDTH)
  })
  const pooled = mean(e, e.linear('projector', hidden, WIDTH, 6), 1)
  e.output('logits', e.linear('classifier', pooled, 6, CLASSES, { matrix: true }))
  return e.finish()
}

function whisperLayer(e: Exporter, x: string): string {
  const normal = layerNorm(e, 'self_attn_layer_norm', x, WIDTH)
  const attended = e.within('self_attn', () => {
    const part = (name: string, bias: boolean): string => e.linear(name, normal, WIDTH, WIDTH, { bias })
    const q = toHeads(e, e.op('Mul', [part('q_proj', true), e.scalar(SIZE ** -0.5)]), HEADS, SIZE)
    const [k, v] = [toHeads(e, part('k_proj', false), HEADS, SIZE), toHeads(e, part('v_proj', true), HEADS, SIZE)]
    return e.linear('out_proj', fromHeads(e, attend(e, q, k, v, {}), WIDTH), WIDTH, WIDTH)
  })
  const sum = e.op('Add', [x, attended])
  const inner = gelu(e, e.linear('fc1', layerNorm(e, 'final_layer_norm', sum, WIDTH), WIDTH, INNER))
  return e.op('Add', [sum, e.linear('fc2', inner, INNER, WIDTH)])
}

/** Causal text tower; pooled at the largest token, projected, normalised and compared with fixed classes. */
export function clipText(): Exported {
  const e = createExporter('clip text')
  const { ids, mask } = tokens(e)
  const pooled = e.within('text_model', () => {
    const bias = causalMask(e, ids, mask)
    let x = e.within('embeddings', () =>
      e.op('Add', [embedding(e, 'token_embedding', ids, VOCABULARY, WIDTH), positionRows(e, ids)])
    )
    for (const layer of layers(LAYERS)) x = e.within(`encoder/layers.${layer}`, () => clipLayer(e, x, bias))
    const last = layerNorm(e, 'final_layer_norm', x, WIDTH)
    const rows = e.op('Range', [e.index(0), dim(e, last, 0), e.index(1)])
    const ends = e.op('ArgMax', [ids], { axis: int(-1), keepdims: int(0) })
    return e.op('GatherND', [last, concatColumns(e, rows, ends)])
  })
  const projected = e.linear('text_projection', pooled, WIDTH, 6, { bias: false, matrix: true })
  const unit = e.op('Div', [projected, e.op('ReduceL2', [projected], { axes: ints(-1), keepdims: int(1) })])
  const classes = e.weight('class_embeddings', [6, CLASSES])
  e.output('logits', e.op('Mul', [e.op('MatMul', [unit, classes]), e.op('Exp', [e.scalar(0.7)])]))
  return e.finish()
}

const concatColumns = (e: Exporter, a: string, b: string): string =>
  e.op('Concat', [unsqueeze(e, a, -1), unsqueeze(e, b, -1)], { axis: int(-1) })

/** The layer of both CLIP towers. */
export function clipLayer(e: Exporter, x: string, mask?: string): string {
  const normal = layerNorm(e, 'layer_norm1', x, WIDTH)
  const attended = e.within('self_attn', () => {
    const part = (name: string): string => toHeads(e, e.linear(name, normal, WIDTH, WIDTH), HEADS, SIZE)
    const q = e.op('Mul', [part('q_proj'), e.scalar(SIZE ** -0.5)])
    return e.linear(
      'out_proj',
      fromHeads(e, attend(e, q, part('k_proj'), part('v_proj'), { mask }), WIDTH),
      WIDTH,
      WIDTH
    )
  })
  const sum = e.op('Add', [x, attended])
  const second = layerNorm(e, 'layer_norm2', sum, WIDTH)
  const inner = e.within('mlp', () =>
    e.linear('fc2', quickGelu(e, e.linear('fc1', second, WIDTH, INNER)), INNER, WIDTH)
  )
  return e.op('Add', [sum, inner])
}
