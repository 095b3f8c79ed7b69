import { scalarValue } from '../graph/constant.js'
import type { Graph, Node } from '../graph/graph.js'
import { constantInts, type RewriteContext, rewriteGraph } from '../graph/rewrite.js'

/**
 * Puts together what exporters take apart and the derivative table knows whole: fewer and cheaper nodes in both passes.
 * A pattern that does not match exactly is left as it is; its parts have derivatives too.
 */
export const fusePatterns = (graph: Graph): Graph => {
  const absorbed = new Set<Node>()
  return rewriteGraph(graph, (node, context) => {
    if (absorbed.has(node)) return true
    if (node.domain !== '') return false
    if (node.op === 'Slice') return fuseSlices(node, context, absorbed)
    if (node.op === 'Mul') return fuseRmsNormalization(node, context) || fuseGelu(node, context)
    return false
  })
}

interface SliceRange {
  readonly node: Node
  readonly start: number
  readonly end: number
  readonly axis: number
}

/** Slices that cut one tensor into adjoining parts (rotary halves) become one Split, whose derivative is one Concat. */
function fuseSlices(node: Node, context: RewriteContext, absorbed: Set<Node>): boolean {
  const own = rangeOf(node, context)
  if (own === undefined) return false
  const x = node.inputs[0] as string
  const parts = context
    .consumersOf(x)
    .map((consumer) => (consumer.op === 'Slice' ? rangeOf(consumer, context) : undefined))
    .filter((part): part is SliceRange => part?.axis === own.axis)
    .sort((a, b) => a.start - b.start)
  const size = context.shapeOf(x)[own.axis]
  const adjoin = parts.every((part, index) => part.start === (parts[index - 1]?.end ?? 0))
  if (parts.length < 2 || !adjoin || parts.at(-1)?.end !== size) return false
  if (parts.some((part) => absorbed.has(part.node))) return false
  context.emit({
    op: 'Split',
    inputs: [x, context.ints(parts.map(({ start, end }) => end - start))],
    attributes: { axis: { type: 'int', value: own.axis } },
    outputs: parts.map((part) => part.node.outputs[0] as string)
  })
  for (const part of parts) absorbed.add(part.node)
  return true
}

/** Constant bounds of a Slice over one axis with step 1, counted from 0. */
function rangeOf(node: Node, context: RewriteContext): SliceRange | undefined {
  const [x = '', startsInput, endsInput, axesInput, stepsInput] = node.inputs
  const [starts, ends, axes] = [startsInput, endsInput, axesInput].map((input) => constantInts(input, context))
  const steps = stepsInput === undefined || stepsInput === '' ? [1] : constantInts(stepsInput, context)
  if (starts?.length !== 1 || ends?.length !== 1 || axes?.length !== 1 || steps?.[0] !== 1) return undefined
  const shape = context.shapeOf(x)
  const axis = ((axes[0] as number) + shape.length) % shape.length
  const size = shape[axis] as number
  const place = (bound: number): number => Math.max(0, Math.min(size, bound < 0 ? bound + size : bound))
  return { node, axis, start: place(starts[0] as number), end: place(ends[0] as number) }
}

/** Leaves of a product of up to three factors written as nested Muls. */
function factorsOf(value: string, context: RewriteContext, depth = 2): readonly string[] {
  const node = context.producerOf(value)
  if (depth === 0 || node?.op !== 'Mul') return [value]
  return node.inputs.flatMap((input) => factorsOf(input, context, depth - 1))
}

const isScalar = (value: string | undefined, wanted: number, context: RewriteContext): boolean => {
  const got = value === undefined ? undefined : scalarValue(context.constantOf(value))
  return got !== undefined && Math.abs(got - wanted) <= 1e-6 * Math.abs(wanted)
}

/** A two-operand operator with a number for one of them. */
type Applied = readonly [op: string, scalar: number]

/** The other operand of such a node. */
function otherOperand(node: Node | undefined, [op, wanted]: Applied, context: RewriteContext): string | undefined {
  if (node?.op !== op) return undefined
  const [a, b] = node.inputs
  if (isScalar(b, wanted, context)) return a
  return isScalar(a, wanted, context) && op !== 'Div' ? b : undefined
}

/** 0.5 x (1 + erf(x / sqrt 2)), or its tanh approximation, in whatever order it is multiplied. */
function fuseGelu(node: Node, context: RewriteContext): boolean {
  const factors = factorsOf(node.outputs[0] as string, context)
  const [x, onePlus, ...others] = factors.filter((factor) => !isScalar(factor, 0.5, context))
  if (factors.length !== 3 || x === undefined || onePlus === undefined || others.length > 0) return false
  for (const [input, sum] of [
    [x, onePlus],
    [onePlus, x]
  ] as const) {
    const inner = otherOperand(context.producerOf(sum), ['Add', 1], context)
    const approximate = inner === undefined ? undefined : geluKind(context.producerOf(inner), input, context)
    if (approximate === undefined) continue
    const attributes = { approximate: { type: 'string', value: approximate } } as const
    context.emit({ op: 'Gelu', inputs: [input], attributes, outputs: node.outputs })
    return true
  }
  return false
}

function geluKind(node: Node | undefined, x: string, context: RewriteContext): 'none' | 'tanh' | undefined {
  const argument = context.producerOf(node?.inputs[0] ?? '')
  if (node?.op === 'Erf') {
    const scaled =
      otherOperand(argument, ['Div', Math.SQRT2], context) ?? otherOperand(argument, ['Mul', Math.SQRT1_2], context)
    return scaled === x ? 'none' : undefined
  }
  if (node?.op !== 'Tanh') return undefined
  const sum = otherOperand(argument, ['Mul', Math.sqrt(2 / Math.PI)], context)
  const add = context.producerOf(sum ?? '')
  const cubic = add?.op === 'Add' && add.inputs.includes(x) ? add.inputs.find((input) => input !== x) : undefined
  const cube = context.producerOf(otherOperand(context.producerOf(cubic ?? ''), ['Mul', 0.044715], context) ?? '')
  return cube?.op === 'Pow' && cube.inputs[0] === x && isScalar(cube.inputs[1], 3, context) ? 'tanh' : undefined
}

/** weight * x / sqrt(mean(x^2) + epsilon) over the last axis (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467). */
function fuseRmsNormalization(node: Node, context: RewriteContext): boolean {
  const [a = '', b = ''] = node.inputs
  const [weight, normalised] = context.constantOf(a)?.shape.length === 1 ? [a, b] : [b, a]
  if (context.constantOf(weight)?.shape.length !== 1) return false
  const parts = deviationOf(context.producerOf(normalised), context)
  const add = context.producerOf(parts?.squareMean ?? '')
  const [meanInput = '', epsilonInput = ''] = add?.op === 'Add' ? add.inputs : []
  const epsilon = scalarValue(context.constantOf(epsilonInput)) ?? scalarValue(context.constantOf(meanInput))
  const mean = context.producerOf(context.constantOf(meanInput) === undefined ? meanInput : epsilonInput)
  if (parts === undefined || epsilon === undefined || !isSquareMean(mean, parts.x, context)) return false
  const attributes = {
    axis: { type: 'int', value: -1 },
    epsilon: { type: 'float', value: epsilon },
    stash_type: { type: 'int', value: 1 }
  } as const
  context.emit({ op: 'SimplifiedLayerNormalization', inputs: [parts.x, weight], attributes, outputs: node.outputs })
  return true
}

/** x and what is under the root, from x / sqrt(m) or x * (1 / sqrt(m)). */
function deviationOf(node: Node | undefined, context: RewriteContext): { x: string; squareMean: string } | undefined {
  const rootOf = (value: string | undefined): string | undefined => {
    const root = context.producerOf(value ?? '')
    return root?.op === 'Sqrt' ? root.inputs[0] : undefined
  }
  const [a = '', b = ''] = node?.inputs ?? []
  if (node?.op === 'Div') {
    const squareMean = rootOf(b)
    return squareMean === undefined ? undefined : { x: a, squareMean }
  }
  if (node?.op !== 'Mul') return undefined
  for (const [x, inverse] of [
    [a, b],
    [b, a]
  ] as const) {
    const divider = context.producerOf(inverse)
    const root = divider?.op === 'Reciprocal' ? divider.inputs[0] : undefined
    const squareMean = rootOf(
      root ?? (divider?.op === 'Div' && isScalar(divider.inputs[0], 1, context) ? divider.inputs[1] : undefined)
    )
    if (squareMean !== undefined) return { x, squareMean }
  }
  return undefined
}

function isSquareMean(mean: Node | undefined, x: string, context: RewriteContext): boolean {
  if (mean?.op !== 'ReduceMean' || mean.attributes.keepdims?.value === 0) return false
  const axes = constantInts(mean.inputs[1], context)
  const last = context.shapeOf(x).length - 1
  if (axes?.length !== 1 || (axes[0] !== -1 && axes[0] !== last)) return false
  const square = context.producerOf(mean.inputs[0] as string)
  if (square?.op === 'Pow') return square.inputs[0] === x && isScalar(square.inputs[1], 2, context)
  return square?.op === 'Mul' && square.inputs.every((input) => input === x)
}
