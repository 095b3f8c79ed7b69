import type { Shape } from '../tensor/schema.js'
import { floatConstant } from './constant.js'
import type { Graph, Initializer, Node } from './graph.js'
import { type RewriteContext, rewriteGraph } from './rewrite.js'

/** A frozen matrix in 8 bits, as two constants; see int8-weight.ts. */
export interface Int8Weight {
  readonly codes: Initializer
  readonly scales: Initializer
}

export interface Int8Options {
  /** The int8 form of a frozen float32 matrix, as it lies or transposed. */
  weight(matrix: Initializer, transposed: boolean): Int8Weight
  /** Names of matrices whose products stay in float32. */
  readonly exact?: ReadonlySet<string>
}

/** Rows and columns below which a product is not worth coding its operand for. */
const MIN_EXTENT = 32
/** Codes of the moving operand: unsigned, 0 lies in the middle. */
const MIDDLE = 128
const LARGEST = 127
/** Largest magnitude of a row of zeros: any positive number that a float32 divides by. */
const NOTHING = 1e-20

/**
 * Products with frozen matrices in 8-bit integers, in both passes: y = (codes(x) codes(W)) * scale of the row of x * scale
 * of the column of W. x is coded anew at each step, row by row, so that one loud token takes no digits from the others
 * (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, section 3.1, vector-wise quantisation). An error of about one
 * part in a hundred of each row comes with it; what trains, attention and sums stay in float32. It pays where the
 * processor has instructions for 8-bit products (AVX512-VNNI): docs/training.md says how much.
 */
export function computeInt8(graph: Graph, { weight, exact = new Set() }: Int8Options): Graph {
  const coded = new Map<string, Coded>()
  const rewritten = rewriteGraph(graph, (node, context) => {
    const product = productOf(node, context)
    if (product === undefined || exact.has(product.matrix.name)) return false
    emitProduct({ ...product, coded, weight }, context)
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
  if (Math.min(rows, inner, outer) < MIN_EXTENT) return undefined
  return { x, matrix, transposed, addend, y: outputs[0] as string, extents: [rows, inner, outer] }
}

/** A matrix by rows: codes uint8[rows, inner] and what they are multiples of, float32[rows, 1]. */
interface Coded {
  readonly codes: string
  readonly scales: string
}

interface ProductParts extends Product, Pick<Int8Options, 'weight'> {
  /** x -> its codes, shared by all products that read it (query, key and value). */
  readonly coded: Map<string, Coded>
}

function emitProduct(parts: ProductParts, context: RewriteContext): void {
  const { x, matrix, transposed, addend, y, extents, coded, weight } = parts
  const [rows, inner, outer] = extents
  const own = coded.get(x) ?? codeRows(x, [rows, inner], context)
  coded.set(x, own)
  const { codes, scales } = weight(matrix, transposed)
  const zero = byteConstant('middle', [MIDDLE], [], context)
  const shape: Shape = [rows, outer]
  const product = context.emit({
    op: 'MatMulIntegerToFloat',
    domain: 'com.microsoft',
    inputs: [own.codes, held(codes, context), context.scalar(1), held(scales, context), zero],
    shape
  })
  if (addend === '') context.emit({ op: 'Mul', inputs: [product, own.scales], outputs: [y], shape })
  else
    context.emit({
      op: 'Add',
      inputs: [context.emit({ op: 'Mul', inputs: [product, own.scales], shape }), addend],
      outputs: [y],
      shape
    })
}

/** The largest magnitude of each row becomes the code 127 or -127. */
function codeRows(x: string, shape: Shape, context: RewriteContext): Coded {
  const [rows = 1] = shape
  const alongRow = (op: string) =>
    context.emit({
      op,
      inputs: [x, context.ints([1])],
      attributes: { keepdims: { type: 'int', value: 0 } },
      shape: [rows]
    })
  const lowest = context.emit({ op: 'Neg', inputs: [alongRow('ReduceMin')], shape: [rows] })
  const nothing = context.scalar(NOTHING)
  const magnitude = context.emit({ op: 'Max', inputs: [alongRow('ReduceMax'), lowest, nothing], shape: [rows] })
  const scale = context.emit({ op: 'Mul', inputs: [magnitude, context.scalar(1 / LARGEST)], shape: [rows] })
  const middles = byteConstant(`middle_${rows}`, new Uint8Array(rows).fill(MIDDLE), [rows], context)
  const codes = context.emit({
    op: 'QuantizeLinear',
    inputs: [x, scale, middles],
    attributes: { axis: { type: 'int', value: 0 } },
    type: 'uint8',
    shape
  })
  const scales = context.emit({ op: 'Reshape', inputs: [scale, context.ints([rows, 1])], shape: [rows, 1] })
  return { codes, scales }
}

/** Constants that several products share go by names of their own. */
function held(constant: Initializer, context: RewriteContext): string {
  return context.constantOf(constant.name) === undefined ? context.constant(constant) : constant.name
}

function byteConstant(name: string, bytes: ArrayLike<number>, shape: Shape, context: RewriteContext): string {
  const data = { kind: 'inline', bytes: Uint8Array.from(bytes) } as const
  return held({ name: `int8.${name}`, type: 'uint8', shape, data }, context)
}

/** The constants of a matrix in 8 bits where it need not lie in a file. */
export const inlineInt8 = (
  name: string,
  { codes, scales, shape }: { readonly codes: Int8Array; readonly scales: Float32Array; readonly shape: Shape }
): Int8Weight => ({
  codes: { name, type: 'int8', shape, data: { kind: 'inline', bytes: new Uint8Array(codes.buffer) } },
  scales: floatConstant(`${name}.scales`, scales)
})
