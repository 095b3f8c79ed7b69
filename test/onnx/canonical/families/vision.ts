import { clipLayer } from './encoders.js'
import { createExporter, type Exported, type Exporter, int, ints } from './exporter.js'
import {
  attend,
  concat,
  dim,
  fromHeads,
  gelu,
  layerNorm,
  mean,
  pick,
  slice,
  toHeads,
  transpose,
  unsqueeze,
  view
} from './patterns.js'

const [WIDTH, HEADS, SIZE, INNER, CLASSES, LAYERS] = [8, 2, 4, 12, 3, 2]
const CHANNELS = 3

const layers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

const pixels = (e: Exporter, size: number): string => e.input('pixel_values', 'float32', 'batch', CHANNELS, size, size)

/** A convolution whose windows lie side by side. */
function patches(
  e: Exporter,
  name: string,
  x: string,
  [from, to, patch]: readonly [number, number, number],
  bias = true
): string {
  return e.within(name, () =>
    e.op('Conv', [x, e.weight('weight', [to, from, patch, patch]), ...(bias ? [e.weight('bias', [to])] : [])], {
      kernel_shape: ints(patch, patch),
      strides: ints(patch, patch),
      pads: ints(0, 0, 0, 0),
      dilations: ints(1, 1),
      group: int(1)
    })
  )
}

/** [batch, width, rows, columns] -> [batch, rows * columns, width], its length counted by the graph. */
function flatten(e: Exporter, x: string): string {
  const lead = e.op('Slice', [e.op('Shape', [x]), e.indices([0]), e.indices([2]), e.indices([0])])
  const flat = e.op('Reshape', [x, concat(e, [lead, e.indices([-1])], 0)])
  return transpose(e, flat, 0, 2, 1)
}

/** A learned token [1, 1, width] for every image of the batch. */
function token(e: Exporter, name: string, like: string): string {
  const shape = concat(e, [unsqueeze(e, dim(e, like, 0), 0), e.indices([1]), e.indices([WIDTH])], 0)
  return e.op('Expand', [e.weight(name, [1, 1, WIDTH]), shape])
}

function vitLayer(e: Exporter, x: string): string {
  const normal = layerNorm(e, 'layernorm_before', x, WIDTH, 1e-12)
  const attended = e.within('attention', () => {
    const out = e.within('attention', () => {
      const part = (name: string): string => toHeads(e, e.linear(name, normal, WIDTH, WIDTH), HEADS, SIZE)
      return fromHeads(e, attend(e, part('query'), part('key'), part('value'), { divisor: Math.sqrt(SIZE) }), WIDTH)
    })
    return e.within('output', () => e.linear('dense', out, WIDTH, WIDTH))
  })
  const sum = e.op('Add', [attended, x])
  const second = layerNorm(e, 'layernorm_after', sum, WIDTH, 1e-12)
  const inner = gelu(
    e,
    e.within('intermediate', () => e.linear('dense', second, WIDTH, INNER))
  )
  return e.op('Add', [e.within('output', () => e.linear('dense', inner, INNER, WIDTH)), sum])
}

/** A distillation token beside the class token, and the mean of two classifiers. */
export function deit(): Exported {
  const e = createExporter('deit')
  const x0 = pixels(e, 6)
  const hidden = e.within('deit', () => {
    let x = e.within('embeddings', () => {
      const grid = e.within('patch_embeddings', () => flatten(e, patches(e, 'projection', x0, [CHANNELS, WIDTH, 2])))
      const all = concat(e, [token(e, 'cls_token', grid), token(e, 'distillation_token', grid), grid], 1)
      return e.op('Add', [all, e.weight('position_embeddings', [1, 11, WIDTH])])
    })
    for (const layer of layers(LAYERS)) x = e.within(`encoder/layer.${layer}`, () => vitLayer(e, x))
    return layerNorm(e, 'layernorm', x, WIDTH, 1e-12)
  })
  const first = e.linear('cls_classifier', pick(e, hidden, 0), WIDTH, CLASSES, { matrix: true })
  const second = e.linear('distillation_classifier', pick(e, hidden, 1), WIDTH, CLASSES, { matrix: true })
  e.output('logits', e.op('Div', [e.op('Add', [first, second]), e.scalar(2)]))
  return e.finish()
}

/** A class embedding, a norm in front of the tower, QuickGELU; classified by the mean of the patches. */
export function clipVision(): Exported {
  const e = createExporter('clip vision')
  const x0 = pixels(e, 6)
  const hidden = e.within('vision_model', () => {
    let x = e.within('embeddings', () => {
      const grid = flatten(e, patches(e, 'patch_embedding', x0, [CHANNELS, WIDTH, 3], false))
      const shape = concat(e, [unsqueeze(e, dim(e, grid, 0), 0), e.indices([1, WIDTH])], 0)
      const all = concat(e, [e.op('Expand', [e.weight('class_embedding', [WIDTH]), shape]), grid], 1)
      const positions = e.within('position_embedding', () =>
        e.op('Gather', [e.weight('weight', [5, WIDTH]), e.indices(layers(5), [1, 5])])
      )
      return e.op('Add', [all, positions])
    })
    x = layerNorm(e, 'pre_layrnorm', x, WIDTH)
    for (const layer of layers(LAYERS)) x = e.within(`encoder/layers.${layer}`, () => clipLayer(e, x))
    return x
  })
  const pooled = mean(e, slice(e, hidden, 1, [1, 2 ** 31]), 1)
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

const GRID = 4
const WINDOW = 2

/** Windows of 2 x 2, shifted by one in every second layer, with learned relative positions; then the grid is merged. */
export function swin(): Exported {
  const e = createExporter('swin')
  const x0 = pixels(e, 8)
  const pooled = e.within('swin', () => {
    const embedded = e.within('embeddings', () => {
      const grid = e.within('patch_embeddings', () => flatten(e, patches(e, 'projection', x0, [CHANNELS, WIDTH, 2])))
      return layerNorm(e, 'norm', grid, WIDTH)
    })
    const merged = e.within('encoder/layers.0', () => {
      let x = embedded
      for (const block of layers(2)) x = e.within(`blocks.${block}`, () => swinBlock(e, x, block % 2))
      return e.within('downsample', () => mergePatches(e, x))
    })
    return e.op('Squeeze', [
      e.op('GlobalAveragePool', [transpose(e, layerNorm(e, 'layernorm', merged, 2 * WIDTH), 0, 2, 1)]),
      e.indices([2])
    ])
  })
  e.output('logits', e.linear('classifier', pooled, 2 * WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

/** torch.roll on both axes of the grid: Slice and Concat. */
const roll = (e: Exporter, x: string, by: number): string =>
  [1, 2].reduce((rolled, axis) => {
    const cut = by > 0 ? GRID - by : -by
    return concat(e, [slice(e, rolled, axis, [cut, 2 ** 31]), slice(e, rolled, axis, [0, cut])], axis)
  }, x)

function swinBlock(e: Exporter, x: string, shift: number): string {
  const normal = layerNorm(e, 'layernorm_before', x, WIDTH)
  const grid = view(e, normal, dim(e, x, 0), GRID, GRID, WIDTH)
  const shifted = shift === 0 ? grid : roll(e, grid, -shift)
  const [side, area] = [GRID / WINDOW, WINDOW * WINDOW]
  const boxes = transpose(e, view(e, shifted, dim(e, x, 0), side, WINDOW, side, WINDOW, WIDTH), 0, 1, 3, 2, 4, 5)
  const windows = view(e, boxes, -1, area, WIDTH)
  const attended = e.within('attention', () => swinAttention(e, windows, dim(e, x, 0), shift))
  const back = view(e, attended, dim(e, x, 0), side, side, WINDOW, WINDOW, WIDTH)
  const joined = view(e, transpose(e, back, 0, 1, 3, 2, 4, 5), dim(e, x, 0), GRID, GRID, WIDTH)
  const placed = shift === 0 ? joined : roll(e, joined, shift)
  const sum = e.op('Add', [x, view(e, placed, dim(e, x, 0), GRID * GRID, WIDTH)])
  const second = layerNorm(e, 'layernorm_after', sum, WIDTH)
  const inner = gelu(
    e,
    e.within('intermediate', () => e.linear('dense', second, WIDTH, INNER))
  )
  return e.op('Add', [sum, e.within('output', () => e.linear('dense', inner, INNER, WIDTH))])
}

function swinAttention(e: Exporter, windows: string, batch: string, shift: number): string {
  const [count, area] = [(GRID / WINDOW) ** 2, WINDOW * WINDOW]
  const out = e.within('self', () => {
    const part = (name: string): string => toHeads(e, e.linear(name, windows, WIDTH, WIDTH), HEADS, SIZE)
    const offset = (i: number, axis: number): number => (axis === 0 ? Math.floor(i / WINDOW) : i % WINDOW)
    const places = layers(area * area).map((flat) => {
      const [i, j] = [Math.floor(flat / area), flat % area]
      const along = (axis: number): number => offset(i, axis) - offset(j, axis) + WINDOW - 1
      return along(0) * (2 * WINDOW - 1) + along(1)
    })
    const table = e.weight('relative_position_bias_table', [(2 * WINDOW - 1) ** 2, HEADS])
    const flat = e.op('Gather', [table, e.indices(places)])
    const relative = unsqueeze(e, transpose(e, e.op('Reshape', [flat, e.indices([area, area, -1])]), 2, 0, 1), 0)
    const [q, k, v] = [part('query'), part('key'), part('value')]
    const products = e.op('MatMul', [q, transpose(e, k, 0, 1, 3, 2)])
    const scores = e.op('Add', [e.op('Div', [products, e.scalar(Math.sqrt(SIZE))]), relative])
    const masked = shift === 0 ? scores : maskedByRegion(e, scores, batch)
    const weights = e.op('Softmax', [masked], { axis: int(-1) })
    return fromHeads(e, e.op('MatMul', [weights, v]), WIDTH)

    function maskedByRegion(_: Exporter, plain: string, images: string): string {
      const byImage = view(e, plain, images, count, HEADS, area, area)
      const mask = e.floats(regionMask(shift), [1, count, 1, area, area])
      return view(e, e.op('Add', [byImage, mask]), -1, HEADS, area, area)
    }
  })
  return e.within('output', () => e.linear('dense', out, WIDTH, WIDTH))
}

/** -100 between places of one window that lay apart before the shift. */
function regionMask(shift: number): number[] {
  const side = GRID / WINDOW
  const region = (place: number): number => (place < GRID - WINDOW ? 0 : place < GRID - shift ? 1 : 2)
  return layers(side * side).flatMap((window) => {
    const kinds = layers(WINDOW * WINDOW).map((i) => {
      const row = Math.floor(window / side) * WINDOW + Math.floor(i / WINDOW)
      const column = (window % side) * WINDOW + (i % WINDOW)
      return 3 * region(row) + region(column)
    })
    return kinds.flatMap((a) => kinds.map((b) => (a === b ? 0 : -100)))
  })
}

/** Four neighbours beside each other, by strided slices, then a product of twice the width. */
function mergePatches(e: Exporter, x: string): string {
  const grid = view(e, x, dim(e, x, 0), GRID, GRID, WIDTH)
  const corner = (row: number, column: number): string =>
    slice(e, slice(e, grid, 1, [row, 2 ** 31, 2]), 2, [column, 2 ** 31, 2])
  const wide = concat(e, [corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1)], -1)
  const flat = view(e, wide, dim(e, x, 0), -1, 4 * WIDTH)
  return e.linear('reduction', layerNorm(e, 'norm', flat, 4 * WIDTH), 4 * WIDTH, 2 * WIDTH, { bias: false })
}

/** Depthwise convolutions, channels last for the MLP, scaled residuals; a pointwise stage after a strided one. */
export function convnext(): Exported {
  const e = createExporter('convnext')
  const x0 = pixels(e, 8)
  const pooled = e.within('convnext', () => {
    const embedded = e.within('embeddings', () =>
      channelsNorm(e, 'layernorm', patches(e, 'patch_embeddings', x0, [CHANNELS, WIDTH, 2]))
    )
    const hidden = e.within('encoder/stages.0', () => {
      let x = embedded
      for (const layer of layers(2)) x = e.within(`layers.${layer}`, () => convnextLayer(e, x))
      return x
    })
    const smaller = e.within('encoder/stages.1', () => {
      const normal = channelsNorm(e, 'downsampling_layer.0', hidden)
      const reduced = patches(e, 'downsampling_layer.1', normal, [WIDTH, WIDTH, 2])
      return e.within('layers.0', () => convnextLayer(e, reduced))
    })
    const flat = e.op('ReduceMean', [smaller], { axes: ints(-2, -1), keepdims: int(0) })
    return layerNorm(e, 'layernorm', flat, WIDTH, 1e-12)
  })
  e.output('logits', e.linear('classifier', pooled, WIDTH, CLASSES, { matrix: true }))
  return e.finish()
}

/** A layer norm over channels in front, written out. */
function channelsNorm(e: Exporter, name: string, x: string): string {
  return e.within(name, () => {
    const centred = e.op('Sub', [x, e.op('ReduceMean', [x], { axes: ints(1) })])
    const variance = e.op('ReduceMean', [e.op('Pow', [centred, e.scalar(2)])], { axes: ints(1) })
    const normal = e.op('Div', [centred, e.op('Sqrt', [e.op('Add', [variance, e.scalar(1e-6)])])])
    const wide = (value: string): string => unsqueeze(e, value, 1, 2)
    const scaled = e.op('Mul', [wide(e.weight('weight', [WIDTH], 1)), normal])
    return e.op('Add', [scaled, wide(e.weight('bias', [WIDTH]))])
  })
}

function convnextLayer(e: Exporter, x: string): string {
  const filtered = e.within('dwconv', () =>
    e.op('Conv', [x, e.weight('weight', [WIDTH, 1, 7, 7]), e.weight('bias', [WIDTH])], {
      kernel_shape: ints(7, 7),
      strides: ints(1, 1),
      pads: ints(3, 3, 3, 3),
      dilations: ints(1, 1),
      group: int(WIDTH)
    })
  )
  const normal = layerNorm(e, 'layernorm', transpose(e, filtered, 0, 2, 3, 1), WIDTH, 1e-6)
  const inner = e.linear('pwconv2', gelu(e, e.linear('pwconv1', normal, WIDTH, INNER)), INNER, WIDTH)
  const scaled = e.op('Mul', [e.weight('layer_scale_parameter', [WIDTH], 0.5), inner])
  return e.op('Add', [x, transpose(e, scaled, 0, 3, 1, 2)])
}
