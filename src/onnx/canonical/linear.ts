import { shapeSize } from '../../tensor/schema.js'
import type { Attribute, Graph, Node } from '../graph/graph.js'
import { isDequantised } from '../int8/quantised.js'
import { type RewriteContext, rewriteGraph } from '../graph/rewrite.js'

/**
 * Brings every linear layer into one form: y2d = Gemm(x2d, weight, bias?), with Reshapes around it where x has more than
 * two axes. A transposed weight becomes the flag `transB`, so that neither pass of training ever transposes a frozen
 * matrix. What PEFT methods look for is exactly this node.
 */
export function canonicalLinears(graph: Graph): Graph {
  const flattened = new Map<string, string>()
  const absorbed = new Set<Node>()
  return rewriteGraph(graph, (node, context) => {
    if (absorbed.has(node)) return true
    if (node.domain !== '') return false
    if (node.op === 'Gemm') return untransposeGemm(node, context)
    if (node.op !== 'MatMul') return false
    const weight = weightOf(node.inputs[1] as string, context)
    if (weight === undefined) return false
    const bias = followingBias(node, context)
    if (bias !== undefined) absorbed.add(bias.add)
    emitLinear({ node, weight, bias, flattened }, context)
    return true
  })
}

interface MatrixUse {
  readonly value: string
  readonly transposed: boolean
}

/** A frozen matrix, or one read through a Transpose. */
function weightOf(value: string, context: RewriteContext): MatrixUse | undefined {
  if (isFrozenMatrix(value, context)) return { value, transposed: false }
  const source = context.producerOf(value)
  const inner = source?.op === 'Transpose' ? (source.inputs[0] as string) : undefined
  return inner !== undefined && isFrozenMatrix(inner, context) ? { value: inner, transposed: true } : undefined
}

/** A constant, or what comes out of a quantised one, cropped or not. */
function isFrozenMatrix(value: string, context: RewriteContext): boolean {
  const constant = context.constantOf(value)
  if (constant !== undefined) return constant.shape.length === 2
  const crop = context.producerOf(value)
  const maker = crop?.op === 'Slice' ? context.producerOf(crop.inputs[0] as string) : crop
  const isConstant = (input: string): boolean => context.constantOf(input) !== undefined
  return isDequantised(maker, isConstant) && context.shapeOf(value).length === 2
}

interface Bias {
  readonly add: Node
  readonly value: string
}

/** The addition of a constant vector that is the product's only reader. */
function followingBias(matmul: Node, context: RewriteContext): Bias | undefined {
  const product = matmul.outputs[0] as string
  const [add, ...others] = context.consumersOf(product)
  if (add?.op !== 'Add' || others.length > 0 || context.isOutput(product)) return undefined
  const value = add.inputs.find((input) => input !== product) as string
  const width = context.shapeOf(product).at(-1)
  const shape = context.constantOf(value)?.shape
  return shape?.length === 1 && shape[0] === width ? { add, value } : undefined
}

interface Linear {
  readonly node: Node
  readonly weight: MatrixUse
  readonly bias: Bias | undefined
  /** x -> x as a matrix, shared by the layers that read one x (query, key and value). */
  readonly flattened: Map<string, string>
}

function emitLinear({ node, weight, bias, flattened }: Linear, context: RewriteContext): void {
  const x = node.inputs[0] as string
  const output = (bias?.add ?? node).outputs[0] as string
  const shape = context.shapeOf(output)
  const width = context.shapeOf(x).at(-1) as number
  const rows = shapeSize(context.shapeOf(x)) / width
  const isMatrix = shape.length === 2
  const x2d = isMatrix ? x : (flattened.get(x) ?? reshape(x, [rows, width], context))
  if (!isMatrix) flattened.set(x, x2d)
  const y2d = context.emit({
    op: 'Gemm',
    inputs: [x2d, weight.value, ...(bias === undefined ? [] : [bias.value])],
    attributes: weight.transposed ? { transB: { type: 'int', value: 1 } } : {},
    shape: [rows, shape.at(-1) as number],
    ...(isMatrix ? { outputs: [output] } : {})
  })
  if (!isMatrix) context.emit({ op: 'Reshape', inputs: [y2d, context.ints(shape)], outputs: [output], shape })
}

const reshape = (x: string, shape: readonly number[], context: RewriteContext): string =>
  context.emit({ op: 'Reshape', inputs: [x, context.ints(shape)], shape })

function untransposeGemm(node: Node, context: RewriteContext): boolean {
  const weight = weightOf(node.inputs[1] as string, context)
  if (weight === undefined || !weight.transposed) return false
  const transB: Attribute = { type: 'int', value: node.attributes.transB?.value === 1 ? 0 : 1 }
  const inputs = [node.inputs[0] as string, weight.value, ...node.inputs.slice(2)]
  const [output] = node.outputs
  context.emit({ op: 'Gemm', inputs, attributes: { ...node.attributes, transB }, outputs: [output as string] })
  return true
}
