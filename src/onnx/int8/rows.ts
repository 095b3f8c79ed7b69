import { type Shape, shapeSize } from '../../tensor/schema.js'
import type { Initializer } from '../graph/graph.js'
import type { RewriteContext } from '../graph/rewrite.js'

/** A matrix by rows: codes uint8[rows, inner], 0 in the middle, and what they are multiples of, float32[rows, 1]. */
export interface CodedRows {
  readonly codes: string
  readonly scales: string
  /** What the codes leave of a row, coded once more: multiples of its scale over FINER. */
  readonly rest?: string
}

/** Codes are unsigned, 0 lies in the middle. */
const MIDDLE = 128
const LARGEST = 127
/** What is left of a number is at most half of its row's scale, which becomes the code 127 or -127 again. */
export const FINER = 2 * LARGEST
/** Largest magnitude of a row of zeros: any positive number that a float32 divides by. */
const NOTHING = 1e-20
/** Operators whose results have no sign, so that the largest is the largest magnitude, too. */
const UNSIGNED: ReadonlySet<string | undefined> = new Set(['Softmax', 'Sigmoid', 'Relu'])

/** x float32[rows, inner] in 8 bits, or in 16 as two codes (`twice`): the largest magnitude of each row becomes 127 or -127. */
export function codeRows(
  x: string,
  { shape, twice }: { readonly shape: Shape; readonly twice: boolean },
  context: RewriteContext
): CodedRows {
  const [rows = 1] = shape
  const magnitude = context.emit({
    op: 'Max',
    inputs: [...extremesOf(x, context), context.scalar(NOTHING)],
    shape: [rows]
  })
  const scale = context.emit({ op: 'Mul', inputs: [magnitude, context.scalar(1 / LARGEST)], shape: [rows] })
  const inRows = {
    shape,
    context,
    middles: middles(`middle_${rows}`, [rows], context)
  }
  const codes = quantise(x, scale, inRows)
  const scales = context.emit({ op: 'Reshape', inputs: [scale, context.ints([rows, 1])], shape: [rows, 1] })
  if (!twice) return { codes, scales }
  const rounded = alongRows('DequantizeLinear', [codes, scale, inRows.middles], { ...inRows, type: 'float32' })
  const rest = context.emit({ op: 'Sub', inputs: [x, rounded], shape })
  const finer = context.emit({ op: 'Mul', inputs: [scale, context.scalar(1 / FINER)], shape: [rows] })
  return { codes, scales, rest: quantise(rest, finer, inRows) }
}

/** Vectors [rows], the largest elements of which are the largest magnitudes. */
function extremesOf(x: string, context: RewriteContext): string[] {
  const rows = context.shapeOf(x).slice(0, 1)
  const along = (op: string) =>
    context.emit({
      op,
      inputs: [x, context.ints([1])],
      attributes: { keepdims: { type: 'int', value: 0 } },
      shape: rows
    })
  if (UNSIGNED.has(context.producerOf(x)?.op)) return [along('ReduceMax')]
  return [along('ReduceMax'), context.emit({ op: 'Neg', inputs: [along('ReduceMin')], shape: rows })]
}

interface InRows {
  readonly shape: Shape
  /** uint8[rows], all MIDDLE. */
  readonly middles: string
  readonly context: RewriteContext
}

const quantise = (x: string, scale: string, rows: InRows): string =>
  alongRows('QuantizeLinear', [x, scale, rows.middles], { ...rows, type: 'uint8' })

const alongRows = (
  op: string,
  inputs: readonly string[],
  { shape, context, type }: InRows & { readonly type: 'uint8' | 'float32' }
): string => context.emit({ op, inputs, attributes: { axis: { type: 'int', value: 0 } }, type, shape })

/** Constants that several products share go by names of their own. */
export function held(constant: Initializer, context: RewriteContext): string {
  return context.constantOf(constant.name) === undefined ? context.constant(constant) : constant.name
}

/** Codes of zero. */
export function middles(name: string, shape: Shape, context: RewriteContext): string {
  const data = { kind: 'inline', bytes: new Uint8Array(shapeSize(shape)).fill(MIDDLE) } as const
  return held({ name: `int8.${name}`, type: 'uint8', shape, data }, context)
}
