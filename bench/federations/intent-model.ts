import { PeertuneError } from '../../src/base/errors.js'
import { seededRng } from '../../src/base/rng.js'
import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer, Node, ValueInfo } from '../../src/onnx/graph/graph.js'
import { pruneGraph } from '../../src/onnx/graph/rewrite.js'

export interface ClassifierOptions {
  readonly labels: number
  /** Of the first values of the head. */
  readonly seed: string
}

/**
 * A sequence classifier made of a causal language model: the mean of its last hidden states under the attention mask,
 * then a linear layer `score` with weight [labels, hidden] and bias. The language model's own head goes.
 */
export function toClassifier(graph: Graph, options: ClassifierOptions): Graph {
  const language = graph.nodes.find(({ outputs }) => outputs[0] === 'logits')
  const width = graph.initializers.get('lm_head.weight')?.shape[1]
  const hidden = language?.inputs[0]
  if (hidden === undefined || width === undefined || !graph.inputs.some(({ name }) => name === 'attention_mask'))
    throw new PeertuneError('bench/no-language-model', 'the model has no linear layer lm_head or no attention mask')
  const { nodes, initializers } = scoreOf(hidden, width, options)
  const logits: ValueInfo = { name: 'logits', type: 'float32', shape: ['batch', options.labels] }
  return pruneGraph({
    ...graph,
    // Writing keeps names of nodes and no metadata, so modules go into the names.
    nodes: [...graph.nodes.filter((node) => node !== language).map(withPath), ...nodes],
    outputs: [logits],
    initializers: new Map([...graph.initializers, ...initializers.map((one) => [one.name, one] as const)]),
    values: new Map([...graph.values, [logits.name, logits]])
  })
}

function withPath(node: Node, index: number): Node {
  if (node.module === undefined) return node
  const path = node.module.replaceAll('.', '/').replace(/\/(\d+)(?=\/|$)/g, '.$1')
  return { ...node, name: `/${path}/${node.op}_${index}` }
}

function scoreOf(hidden: string, width: number, { labels, seed }: ClassifierOptions) {
  const nodes: Node[] = []
  const initializers: Initializer[] = []
  const constant = (one: Initializer): string => {
    initializers.push(one)
    return one.name
  }
  const emit = (op: string, module: string, inputs: readonly string[], attributes: Node['attributes'] = {}): string => {
    const name = `/${module}/${op}_${nodes.length}`
    nodes.push({ op, domain: '', name, inputs, outputs: [`${name}_output`], attributes, module })
    return `${name}_output`
  }
  const axis = (at: number) => constant(intConstant(`axis_${at}_${initializers.length}`, [at]))
  const int = (value: number): Attribute => ({ type: 'int', value })
  const mask = emit('Cast', 'pooler', ['attention_mask'], { to: int(FLOAT) })
  const column = emit('Unsqueeze', 'pooler', [mask, axis(2)])
  const seen = emit('Mul', 'pooler', [hidden, column])
  const sum = emit('ReduceSum', 'pooler', [seen, axis(1)], { keepdims: int(0) })
  const count = emit('ReduceSum', 'pooler', [mask, axis(1)], { keepdims: int(1) })
  const pooled = emit('Div', 'pooler', [sum, count])
  const rng = seededRng('score', seed)
  const first = Float32Array.from({ length: labels * width }, () => (2 * rng.uniform() - 1) / Math.sqrt(width))
  const weight = emit('Transpose', 'score', [constant(floatConstant('score.weight', first, [labels, width]))], {
    perm: { type: 'ints', value: [1, 0] }
  })
  const product = emit('MatMul', 'score', [pooled, weight])
  const bias = constant(floatConstant('score.bias', new Float32Array(labels), [labels]))
  nodes.push({
    op: 'Add',
    domain: '',
    name: '/score/Add',
    inputs: [product, bias],
    outputs: ['logits'],
    attributes: {},
    module: 'score'
  })
  return { nodes, initializers }
}

/** TensorProto.DataType.FLOAT. */
const FLOAT = 1
