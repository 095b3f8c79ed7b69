/** A frozen matrix in 8 bits: value [inner, outer] = codes [inner, outer] * scales [outer]. */
export interface Int8Matrix {
  /** int8[inner * outer], row major. */
  readonly codes: Int8Array
  /** float32[outer], all above 0. */
  readonly scales: Float32Array
}

export interface MatrixLayout {
  /** Rows and columns of `values` as they lie. */
  readonly rows: number
  readonly columns: number
  /** Whether the product reads the transpose: inner is then `columns`, outer `rows`. */
  readonly transposed: boolean
  /** Largest code, 1 to 127. */
  readonly largest: number
}

/** Magnitude below which a column counts as zeros: its scale would have too few digits, or none. */
const NOTHING = 1e-30
/** Scale of a column of zeros, whose codes are zeros, too. */
const EMPTY_SCALE = 1

/**
 * Symmetric rounding of each column of the matrix that a product multiplies by (Jacob et al. 2018,
 * https://arxiv.org/abs/1712.05877, section 2.1, with zero point 0 and one scale per output channel).
 * values: float32[rows * columns].
 */
export function quantiseMatrix(values: Float32Array, layout: MatrixLayout): Int8Matrix {
  const { rows, columns, transposed, largest } = layout
  const outer = transposed ? rows : columns
  const scales = columnMaxima(values, layout)
  for (let j = 0; j < outer; j++)
    scales[j] = (scales[j] as number) < NOTHING ? EMPTY_SCALE : (scales[j] as number) / largest
  const codes = new Int8Array(rows * columns)
  for (let row = 0, at = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, at++) {
      const scale = scales[transposed ? row : column] as number
      codes[transposed ? column * rows + row : at] = Math.round((values[at] as number) / scale)
    }
  return { codes, scales }
}

function columnMaxima(values: Float32Array, { rows, columns, transposed }: MatrixLayout): Float32Array {
  const maxima = new Float32Array(transposed ? rows : columns)
  for (let row = 0, at = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, at++) {
      const outer = transposed ? row : column
      const magnitude = Math.abs(values[at] as number)
      if (magnitude > (maxima[outer] as number)) maxima[outer] = magnitude
    }
  return maxima
}
