import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../src/onnx/graph/graph.js'
import type { Shape } from '../../src/tensor/schema.js'

const OPSET = 18
const LAYER_NORM_EPSILON = 1e-12

/** A vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929) with mean pooling. */
export interface VitConfig {
  /** Pixels along a side of the grey image. */
  readonly imageSide: number
  /** Pixels along a side of a patch; divides `imageSide`. */
  readonly patchSide: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly intermediate: number
  readonly labels: number
}

/** 16 patches of 7 x 7: 0.2 M parameters, 0.8 MB. */
export const GLYPH_VIT: VitConfig = {
  imageSide: 28,
  patchSide: 7,
  hidden: 64,
  layers: 4,
  heads: 4,
  intermediate: 256,
  labels: 10
}

/** The config.json of Hugging Face's ViTForImageClassification, for what such a model has and this one has too. */
export const huggingFaceConfig = (config: VitConfig, labels: readonly string[]) => ({
  model_type: 'vit',
  image_size: config.imageSide,
  patch_size: config.patchSide,
  num_channels: 1,
  hidden_size: config.hidden,
  num_hidden_layers: config.layers,
  num_attention_heads: config.heads,
  intermediate_size: config.intermediate,
  hidden_act: 'gelu',
  layer_norm_eps: LAYER_NORM_EPSILON,
  qkv_bias: true,
  id2label: Object.fromEntries(labels.map((label, id) => [id, label])),
  label2id: Object.fromEntries(labels.map((label, id) => [label, id]))
})

/** float32 tensors by Hugging Face name; linear weights are [out, in], as PyTorch keeps them. */
export type VitWeights = (name: string, shape: Shape) => Float32Array

/** Collects nodes and initializers; every method returns the name of the value it makes. */
interface Builder {
  readonly nodes: Node[]
  readonly initializers: Map<string, Initializer>
  readonly weights: VitWeights
}

const INT = (value: number): Attribute => ({ type: 'int', value })
const INTS = (value: readonly number[]): Attribute => ({ type: 'ints', value })
const FLOAT = (value: number): Attribute => ({ type: 'float', value })

/**
 * The forward graph as PyTorch's TorchScript exporter would leave it: nodes named by module path, linear layers as
 * MatMul with an anonymous [in, out] weight and Add. Input `pixel_values` float32[batch, 1, side, side], output
 * `logits` float32[batch, labels].
 */
export function buildVit(config: VitConfig, weights: VitWeights): Graph {
  const b: Builder = { nodes: [], initializers: new Map(), weights }
  let x = embed(b, config)
  for (let layer = 0; layer < config.layers; layer++) x = encoderLayer(b, config, `/vit/encoder/layer.${layer}`, x)
  x = layerNorm(b, '/vit/layernorm', x, config.hidden)
  x = emit(b, 'ReduceMean', '/vit/pooler', [x, ints(b, '/vit/pooler/axes', [1])], { keepdims: INT(0) })
  classify(b, config, x)
  const side = config.imageSide
  const inputs: ValueInfo[] = [{ name: 'pixel_values', type: 'float32', shape: ['batch', 1, side, side] }]
  const outputs: ValueInfo[] = [{ name: 'logits', type: 'float32', shape: ['batch', config.labels] }]
  const constants = Array.from(b.initializers.values(), ({ name, type, shape }): ValueInfo => ({ name, type, shape }))
  const values = new Map([...inputs, ...outputs, ...constants].map((info) => [info.name, info]))
  return {
    name: 'glyph-vit',
    opsets: { '': OPSET },
    inputs,
    outputs,
    nodes: b.nodes,
    initializers: b.initializers,
    values
  }
}

/** Cuts the image into patches by Reshape and Transpose, projects each, adds its place. */
function embed(b: Builder, { imageSide, patchSide, hidden }: VitConfig): string {
  const module = '/vit/embeddings/patch_embeddings'
  const across = imageSide / patchSide
  const pixels = patchSide * patchSide
  const grid = reshape(b, module, 'pixel_values', 'grid', [-1, across, patchSide, across, patchSide])
  const turned = emit(b, 'Transpose', module, [grid], { perm: INTS([0, 1, 3, 2, 4]) })
  const patches = reshape(b, module, turned, 'patches', [-1, across * across, pixels])
  const projected = linear(b, `${module}/projection`, patches, pixels, hidden)
  const place = weight(b, 'vit.embeddings.position_embeddings', [1, across * across, hidden])
  return emit(b, 'Add', '/vit/embeddings', [projected, place])
}

function encoderLayer(b: Builder, config: VitConfig, module: string, x: string): string {
  const { hidden, intermediate } = config
  const attended = selfAttention(
    b,
    config,
    `${module}/attention`,
    layerNorm(b, `${module}/layernorm_before`, x, hidden)
  )
  const first = emit(b, 'Add', module, [attended, x], {}, 'Add')
  const normed = layerNorm(b, `${module}/layernorm_after`, first, hidden)
  const wide = linear(b, `${module}/intermediate/dense`, normed, hidden, intermediate)
  const bent = gelu(b, `${module}/intermediate/intermediate_act_fn`, wide)
  const narrow = linear(b, `${module}/output/dense`, bent, intermediate, hidden)
  return emit(b, 'Add', `${module}/output`, [narrow, first])
}

function selfAttention(
  b: Builder,
  { imageSide, patchSide, hidden, heads }: VitConfig,
  module: string,
  x: string
): string {
  const tokens = (imageSide / patchSide) ** 2
  const width = hidden / heads
  const inner = `${module}/attention`
  const split = (name: string, perm: readonly number[]): string => {
    const projected = linear(b, `${inner}/${name}`, x, hidden, hidden)
    const byHead = reshape(b, inner, projected, `${name}_heads`, [-1, tokens, heads, width])
    return emit(b, 'Transpose', inner, [byHead], { perm: INTS(perm) }, `Transpose_${name}`)
  }
  const [query, key, value] = [split('query', [0, 2, 1, 3]), split('key', [0, 2, 3, 1]), split('value', [0, 2, 1, 3])]
  const scores = emit(b, 'MatMul', inner, [query, key], {}, 'MatMul_scores')
  const scaled = emit(b, 'Mul', inner, [scores, constant(b, `${inner}/scale`, 1 / Math.sqrt(width))])
  const shares = emit(b, 'Softmax', inner, [scaled], { axis: INT(-1) })
  const mixed = emit(b, 'MatMul', inner, [shares, value], {}, 'MatMul_context')
  const turned = emit(b, 'Transpose', inner, [mixed], { perm: INTS([0, 2, 1, 3]) }, 'Transpose_context')
  const context = reshape(b, inner, turned, 'context', [-1, tokens, hidden])
  return linear(b, `${module}/output/dense`, context, hidden, hidden)
}

/** x * (1 + erf(x / sqrt 2)) / 2 in the operators of opset 18, which has no Gelu. */
function gelu(b: Builder, module: string, x: string): string {
  const scaled = emit(b, 'Div', module, [x, constant(b, `${module}/root`, Math.SQRT2)])
  const erf = emit(b, 'Erf', module, [scaled])
  const shifted = emit(b, 'Add', module, [erf, constant(b, `${module}/one`, 1)])
  const product = emit(b, 'Mul', module, [x, shifted])
  return emit(b, 'Mul', module, [product, constant(b, `${module}/half`, 0.5)], {}, 'Mul_half')
}

/** The head keeps its real name and orientation: Gemm takes [out, in] with transB. */
function classify(b: Builder, { hidden, labels }: VitConfig, pooled: string): void {
  b.nodes.push({
    op: 'Gemm',
    domain: '',
    name: '/classifier/Gemm',
    inputs: [pooled, weight(b, 'classifier.weight', [labels, hidden]), weight(b, 'classifier.bias', [labels])],
    outputs: ['logits'],
    attributes: { transB: INT(1) },
    module: 'classifier'
  })
}

function linear(b: Builder, module: string, x: string, inputs: number, outputs: number): string {
  const name = dotted(module)
  const turned = floatConstant(
    `onnx::MatMul_${name}`,
    transpose(b.weights(`${name}.weight`, [outputs, inputs]), outputs, inputs),
    [inputs, outputs]
  )
  b.initializers.set(turned.name, turned)
  const product = emit(b, 'MatMul', module, [x, turned.name])
  return emit(b, 'Add', module, [weight(b, `${name}.bias`, [outputs]), product])
}

function layerNorm(b: Builder, module: string, x: string, size: number): string {
  const scale = weight(b, `${dotted(module)}.weight`, [size])
  const shift = weight(b, `${dotted(module)}.bias`, [size])
  const attributes = { axis: INT(-1), epsilon: FLOAT(LAYER_NORM_EPSILON) }
  return emit(b, 'LayerNormalization', module, [x, scale, shift], attributes)
}

const reshape = (b: Builder, module: string, x: string, label: string, shape: readonly number[]): string =>
  emit(b, 'Reshape', module, [x, ints(b, `${module}/${label}_shape`, shape)], {}, `Reshape_${label}`)

function emit(
  b: Builder,
  op: string,
  module: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, Attribute>> = {},
  segment = op
): string {
  const name = `${module}/${segment}`
  const output = `${name}_output_0`
  b.nodes.push({ op, domain: '', name, inputs, outputs: [output], attributes, module: dotted(module) })
  return output
}

function weight(b: Builder, name: string, shape: Shape): string {
  b.initializers.set(name, floatConstant(name, b.weights(name, shape), shape))
  return name
}

function constant(b: Builder, name: string, value: number): string {
  b.initializers.set(name, floatConstant(name, value))
  return name
}

function ints(b: Builder, name: string, values: readonly number[]): string {
  b.initializers.set(name, intConstant(name, values))
  return name
}

const dotted = (module: string): string => module.slice(1).replaceAll('/', '.')

function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(matrix.length)
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) turned[column * rows + row] = matrix[row * columns + column]!
  return turned
}
