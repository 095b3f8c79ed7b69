import type { Shape } from '../../tensor/schema.js'
import { floatConstant } from '../graph/constant.js'
import type { Graph, Initializer, Node } from '../graph/graph.js'
import { type CodedRows, codeRows, FINER, held, middles } from './rows.js'
import { type RewriteContext, rewriteGraph } from '../graph/rewrite.js'

/** A frozen matrix in 8 bits, as two constants; see weight.ts. */
export interface Int8Weight {
  readonly codes: Initializer
  readonly scales: Initializer
}

export interface Int8Options {
  /** The int8 form of a frozen float32 matrix, as it lies or transposed. */
  weight(matrix: Initializer, transposed: boolean): Int8Weight
  /** Names of matrices that are multiplied by 16-bit operands instead of 8-bit ones. */
  readonly fine?: ReadonlySet<string>
}

/** Rows and columns below which a product is not worth coding its operand for. */
const MIN_EXTENT = 32
/** Products of codes that surely add up to less than 2^31. */
const MAX_INNER = 2 ** 17

/**
 * Products with frozen matrices in 8-bit integers, in both passes: y = (codes(x) codes(W)) * scale of the row of x * scale
 * of the column of W. x is coded anew at each step, row by row, so that one loud token takes no digits from the others
 * (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, section 3.1, vector-wise quantisation). An error of about one
 * part in a hundred of each row comes with it; what trains, attention and sums stay in float32. It pays where the
 * processor has instructions for 8-bit products (AVX512-VNNI): docs/training.md says how much.
 */
export function computeInt8(graph: Graph, { weight, fine = new Set() }: Int8Options): Graph {
  const coded = new Map<string, CodedRows>()
  const rewritten = rewriteGraph(graph, (node, context) => {
    const product = productOf(node, context)
    if (product === undefined) return false
    const emitter = {
      context,
      coded,
      twice: fine.has(product.matrix.name),
      weight: heldWeight(product, weight, context)
    }
    emitSum(product, emitter)
    return true
  })
  return { ...rewritten, opsets: { ...rewritten.opsets, 'com.microsoft': 1 } }
}

interface Product {
  readonly x: string
  readonly matrix: Initializer
  readonly transposed: boolean
  /** Added to the product: a vector or a matrix; '' for none. */
  readonly addend: string
  readonly y: string
  /** [rows, inner, outer]. */
  readonly extents: readonly [number, number, number]
}

/** Gemm(x, frozen matrix, addend?) without factors, large enough. */
function productOf({ op, domain, inputs, outputs, attributes }: Node, context: RewriteContext): Product | undefined {
  if (op !== 'Gemm' || domain !== '' || attributes.transA?.value === 1) return undefined
  if ((attributes.alpha?.value ?? 1) !== 1 || (attributes.beta?.value ?? 1) !== 1) return undefined
  const [x = '', name = '', addend = ''] = inputs
  const matrix = context.constantOf(name)
  if (matrix?.type !== 'float32' || context.constantOf(x) !== undefined) return undefined
  const transposed = attributes.transB?.value === 1
  const [rows = 0, inner = 0] = context.shapeOf(x)
  const outer = Number(matrix.shape[transposed ? 0 : 1])
  if (Math.min(rows, inner, outer) < MIN_EXTENT || inner > MAX_INNER) return undefined
  return { x, matrix, transposed, addend, y: outputs[0] as string, extents: [rows, inner, outer] }
}

/** Names of a matrix's constants in the graph that is being made. */
interface HeldWeight {
  /** int8[inner, outer] and float32[outer]. */
  readonly codes: string
  readonly scales: string
}

function heldWeight({ matrix, transposed }: Product, make: Int8Options['weight'], context: RewriteContext): HeldWeight {
  const { codes, scales } = make(matrix, transposed)
  return { codes: held(codes, context), scales: held(scales, context) }
}

interface ProductEmitter {
  readonly context: RewriteContext
  /** Operand -> its codes, shared by all products that read it (query, key and value). */
  readonly coded: Map<string, CodedRows>
  /** Whether operands are coded in 16 bits. */
  readonly twice: boolean
  readonly weight: HeldWeight
}

/** y = x W + addend. */
function emitSum({ x, addend, y, extents: [rows, inner, outer] }: Product, emitter: ProductEmitter): void {
  const { context, twice } = emitter
  const shape = [rows, outer]
  const { dense, factor, picked } = twice ? scatteredOperand(x, context) : { dense: x }
  const operand = codesOf(dense, [rows, inner], emitter)
  const column = [rows, 1]
  const scale =
    factor === undefined ? operand.scales : context.emit({ op: 'Mul', inputs: [operand.scales, factor], shape: column })
  const addends = [...(picked ? [pickedRows(picked, shape, emitter)] : []), ...(addend === '' ? [] : [addend])]
  const steps = [['Mul', scale], ...addends.map((term) => ['Add', term])] as const
  steps.reduce(
    (sum, [op, term], i) => {
      const outputs = i === steps.length - 1 ? { outputs: [y] } : {}
      return context.emit({ op, inputs: [sum, term], shape, ...outputs })
    },
    codedProduct(operand, shape, emitter)
  )
}

function codesOf(x: string, shape: Shape, { context, coded, twice }: ProductEmitter): CodedRows {
  const key = `${twice} ${x}`
  const codes = coded.get(key) ?? codeRows(x, { shape, twice }, context)
  coded.set(key, codes)
  return codes
}

/** The product in units of the operand's row scales. */
function codedProduct({ codes, rest }: CodedRows, shape: Shape, { context, weight }: ProductEmitter): string {
  const product = (operand: string, unit: number): string =>
    context.emit({
      op: 'MatMulIntegerToFloat',
      domain: 'com.microsoft',
      inputs: [operand, weight.codes, context.scalar(unit), weight.scales, middles('middle', [], context)],
      shape
    })
  if (rest === undefined) return product(codes, 1)
  return context.emit({ op: 'Add', inputs: [product(codes, 1), product(rest, 1 / FINER)], shape })
}

/** One element of each row besides what is dense: onehot(index) * value. */
interface Picked {
  /** int64[rows, 1] */
  readonly indices: string
  /** float32[rows, 1] */
  readonly values: string
}

interface Operand {
  readonly dense: string
  /** float32[rows, 1]: what `dense` is multiplied by, row by row. */
  readonly factor?: string
  readonly picked?: Picked
}

/**
 * factor * dense + onehot(indices) * values, as the gradient of a cross entropy is made. Taken apart since the element
 * at the label is often a thousand times as large as all others of its row, which would then have few digits left.
 */
function scatteredOperand(x: string, context: RewriteContext): Operand {
  const scatter = context.producerOf(x)
  if (scatter?.op !== 'ScatterElements') return { dense: x }
  const { axis, reduction } = scatter.attributes
  const [base = '', indices = '', values = ''] = scatter.inputs
  const isOneARow = [indices, values].every((name) => isColumn(name, context))
  if (reduction?.value !== 'add' || axis?.value !== 1 || !isOneARow) return { dense: x }
  const picked = { indices, values }
  const scaled = context.producerOf(base)
  const [dense = '', factor = ''] = scaled?.inputs ?? []
  return scaled?.op === 'Mul' && isColumn(factor, context) ? { dense, factor, picked } : { dense: base, picked }
}

const isColumn = (name: string, context: RewriteContext): boolean => {
  const shape = context.shapeOf(name)
  return shape.length === 2 && shape[1] === 1
}

/**
 * values * W[indices], of the matrix as it is coded: near a label that is all but certain the two terms of its gradient
 * cancel, and must be off by the same.
 */
function pickedRows({ indices, values }: Picked, shape: Shape, { context, weight }: ProductEmitter): string {
  const [rows = 1] = shape
  const flat = context.emit({ op: 'Reshape', inputs: [indices, context.ints([rows])], type: 'int64', shape: [rows] })
  const codes = context.emit({ op: 'Gather', inputs: [weight.codes, flat], type: 'int8', shape })
  const numbers = context.emit({ op: 'Cast', inputs: [codes], attributes: { to: { type: 'int', value: 1 } }, shape })
  const scaled = context.emit({ op: 'Mul', inputs: [numbers, weight.scales], shape })
  return context.emit({ op: 'Mul', inputs: [scaled, values], shape })
}

/** The constants of a matrix in 8 bits where it need not lie in a file. */
export const inlineInt8 = (
  name: string,
  { codes, scales, shape }: { readonly codes: Int8Array; readonly scales: Float32Array; readonly shape: Shape }
): Int8Weight => ({
  codes: { name, type: 'int8', shape, data: { kind: 'inline', bytes: new Uint8Array(codes.buffer) } },
  scales: floatConstant(`${name}.scales`, scales)
})
