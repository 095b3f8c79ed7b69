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

/** Collects nodes and initializers for one module of the model. */
interface Builder {
  readonly nodes: Node[]
  readonly initializers: Map<string, Initializer>
  readonly weights: VitWeights
  /** As nodes are named by it: `/vit/encoder/layer.0`. */
  readonly module: string
}

/** The same graph, for a module inside this one. */
const at = (b: Builder, module: string): Builder => ({ ...b, module: `${b.module}/${module}` })

const INT = (value: number): Attribute => ({ type: 'int', value })
const INTS = (value: readonly number[]): Attribute => ({ type: 'ints', value })
const FLOAT = (value: number): Attribute => ({ type: 'float', value })

/**
 * The forward graph as PyTorch's TorchScript exporter would leave it: nodes named by module path, linear layers as
 * MatMul with an anonymous [in, out] weight and Add. Input `pixel_values` float32[batch, 1, side, side], output
 * `logits` float32[batch, labels].
 */
export function buildVit(config: VitConfig, weights: VitWeights): Graph {
  const b: Builder = { nodes: [], initializers: new Map(), weights, module: '' }
  const vit = at(b, 'vit')
  let x = embed(at(vit, 'embeddings'), config)
  for (let layer = 0; layer < config.layers; layer++) x = encoderLayer(at(vit, `encoder/layer.${layer}`), config, x)
  x = layerNorm(at(vit, 'layernorm'), x, config.hidden)
  const pooler = at(vit, 'pooler')
  x = emit(pooler, { op: 'ReduceMean', inputs: [x, ints(pooler, 'axes', [1])], attributes: { keepdims: INT(0) } })
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
  const cut = at(b, 'patch_embeddings')
  const across = imageSide / patchSide
  const pixels = patchSide * patchSide
  const grid = reshape(cut, 'grid', { x: 'pixel_values', shape: [-1, across, patchSide, across, patchSide] })
  const turned = emit(cut, { op: 'Transpose', inputs: [grid], attributes: { perm: INTS([0, 1, 3, 2, 4]) } })
  const patches = reshape(cut, 'patches', { x: turned, shape: [-1, across * across, pixels] })
  const projected = linear(at(cut, 'projection'), patches, [pixels, hidden])
  const place = weight(b, 'vit.embeddings.position_embeddings', [1, across * across, hidden])
  return emit(b, { op: 'Add', inputs: [projected, place] })
}

function encoderLayer(b: Builder, config: VitConfig, x: string): string {
  const { hidden, intermediate } = config
  const attended = selfAttention(at(b, 'attention'), config, layerNorm(at(b, 'layernorm_before'), x, hidden))
  const first = emit(b, { op: 'Add', inputs: [attended, x] })
  const normed = layerNorm(at(b, 'layernorm_after'), first, hidden)
  const wide = linear(at(b, 'intermediate/dense'), normed, [hidden, intermediate])
  const bent = gelu(at(b, 'intermediate/intermediate_act_fn'), wide)
  const narrow = linear(at(b, 'output/dense'), bent, [intermediate, hidden])
  return emit(at(b, 'output'), { op: 'Add', inputs: [narrow, first] })
}

function selfAttention(b: Builder, { imageSide, patchSide, hidden, heads }: VitConfig, x: string): string {
  const tokens = (imageSide / patchSide) ** 2
  const width = hidden / heads
  const inner = at(b, 'attention')
  const transpose = (of: string, label: string, perm: readonly number[]): string =>
    emit(inner, { op: 'Transpose', inputs: [of], attributes: { perm: INTS(perm) }, label })
  const split = (name: string, perm: readonly number[]): string => {
    const projected = linear(at(inner, name), x, [hidden, hidden])
    return transpose(reshape(inner, `${name}_heads`, { x: projected, shape: [-1, tokens, heads, width] }), name, perm)
  }
  const [query, key, value] = [split('query', [0, 2, 1, 3]), split('key', [0, 2, 3, 1]), split('value', [0, 2, 1, 3])]
  const scores = emit(inner, { op: 'MatMul', inputs: [query, key], label: 'scores' })
  const scaled = emit(inner, { op: 'Mul', inputs: [scores, constant(inner, 'scale', 1 / Math.sqrt(width))] })
  const shares = emit(inner, { op: 'Softmax', inputs: [scaled], attributes: { axis: INT(-1) } })
  const mixed = emit(inner, { op: 'MatMul', inputs: [shares, value], label: 'context' })
  const context = reshape(inner, 'context', {
    x: transpose(mixed, 'context', [0, 2, 1, 3]),
    shape: [-1, tokens, hidden]
  })
  return linear(at(b, 'output/dense'), context, [hidden, hidden])
}

/** x * (1 + erf(x / sqrt 2)) / 2 in the operators of opset 18, which has no Gelu. */
function gelu(b: Builder, x: string): string {
  const scaled = emit(b, { op: 'Div', inputs: [x, constant(b, 'root', Math.SQRT2)] })
  const erf = emit(b, { op: 'Erf', inputs: [scaled] })
  const shifted = emit(b, { op: 'Add', inputs: [erf, constant(b, 'one', 1)] })
  const product = emit(b, { op: 'Mul', inputs: [x, shifted] })
  return emit(b, { op: 'Mul', inputs: [product, constant(b, 'half', 0.5)], label: 'half' })
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

function linear(b: Builder, x: string, [inputs, outputs]: readonly [inputs: number, outputs: number]): string {
  const name = dotted(b.module)
  const turned = floatConstant(
    `onnx::MatMul_${name}`,
    transpose(b.weights(`${name}.weight`, [outputs, inputs]), outputs, inputs),
    [inputs, outputs]
  )
  b.initializers.set(turned.name, turned)
  const product = emit(b, { op: 'MatMul', inputs: [x, turned.name] })
  return emit(b, { op: 'Add', inputs: [weight(b, `${name}.bias`, [outputs]), product] })
}

function layerNorm(b: Builder, x: string, size: number): string {
  const scale = weight(b, `${dotted(b.module)}.weight`, [size])
  const shift = weight(b, `${dotted(b.module)}.bias`, [size])
  const attributes = { axis: INT(-1), epsilon: FLOAT(LAYER_NORM_EPSILON) }
  return emit(b, { op: 'LayerNormalization', inputs: [x, scale, shift], attributes })
}

interface Reshaped {
  readonly x: string
  readonly shape: readonly number[]
}

const reshape = (b: Builder, label: string, { x, shape }: Reshaped): string =>
  emit(b, { op: 'Reshape', inputs: [x, ints(b, `${label}_shape`, shape)], label })

interface Emitted {
  readonly op: string
  readonly inputs: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
  /** Tells nodes of one kind in one module apart. */
  readonly label?: string
}

/** Appends a node and returns the name of its output. */
function emit(b: Builder, { op, inputs, attributes = {}, label }: Emitted): string {
  const name = `${b.module}/${label === undefined ? op : `${op}_${label}`}`
  const output = `${name}_output_0`
  b.nodes.push({ op, domain: '', name, inputs, outputs: [output], attributes, module: dotted(b.module) })
  return output
}

function weight(b: Builder, name: string, shape: Shape): string {
  b.initializers.set(name, floatConstant(name, b.weights(name, shape), shape))
  return name
}

function constant(b: Builder, label: string, value: number): string {
  const name = `${b.module}/${label}`
  b.initializers.set(name, floatConstant(name, value))
  return name
}

function ints(b: Builder, label: string, values: readonly number[]): string {
  const name = `${b.module}/${label}`
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
