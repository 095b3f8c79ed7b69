/** Sweeps; quadratic convergence needs half as many. */
const MAX_SWEEPS = 30

/** Rows float64[rows, columns], one behind the other. */
export interface Rows {
  readonly values: Float64Array
  readonly columns: number
}

/**
 * One-sided Jacobi: plane rotations of the rows of `a` until they are orthogonal, and of those of `companion` with them, in
 * place. Only + - * / and square roots, in a fixed order: the same bits on every machine.
 */
export function orthogonaliseRows(a: Rows, companion: Rows, rows: number): void {
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let rotated = false
    for (let p = 0; p < rows - 1; p++)
      for (let q = p + 1; q < rows; q++) {
        const [alpha, beta, gamma] = [inner(a, p, p), inner(a, q, q), inner(a, p, q)]
        if (Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) continue
        rotated = true
        const zeta = (beta - alpha) / (2 * gamma)
        const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
        const cosine = 1 / Math.sqrt(1 + t * t)
        rotate(a, [p, q], [cosine, cosine * t])
        rotate(companion, [p, q], [cosine, cosine * t])
      }
    if (!rotated) return
  }
}

/** Inner product of two rows. */
export function inner({ values, columns }: Rows, p: number, q: number): number {
  let sum = 0
  for (let i = 0; i < columns; i++) sum += values[p * columns + i]! * values[q * columns + i]!
  return sum
}

function rotate(
  { values, columns }: Rows,
  [p, q]: readonly [number, number],
  [cosine, sine]: readonly [number, number]
): void {
  for (let i = 0; i < columns; i++) {
    const [x, y] = [values[p * columns + i]!, values[q * columns + i]!]
    values[p * columns + i] = cosine * x - sine * y
    values[q * columns + i] = sine * x + cosine * y
  }
}

/** M = sum_k values[k] left_k right_k^T. Rows of `right` whose value is 0 are 0. */
export interface SmallSvd {
  /** float64[rows], falling. */
  readonly values: Float64Array
  /** float64[rows, rows], one left vector a row. */
  readonly left: Float64Array
  /** float64[rows, columns], one right vector a row. */
  readonly right: Float64Array
}

/** All singular values of float64[rows, columns]; for small matrices, O(rows^2 columns) a sweep. */
export function smallSvd(matrix: Float64Array, rows: number, columns: number): SmallSvd {
  const a: Rows = { values: matrix.slice(), columns }
  const turned: Rows = { values: new Float64Array(rows * rows), columns: rows }
  for (let i = 0; i < rows; i++) turned.values[i * rows + i] = 1
  orthogonaliseRows(a, turned, rows)
  const norms = Array.from({ length: rows }, (_, k) => Math.sqrt(inner(a, k, k)))
  const order = norms.map((_, k) => k).sort((x, y) => norms[y]! - norms[x]! || x - y)
  const right = new Float64Array(rows * columns)
  const left = new Float64Array(rows * rows)
  for (const [row, k] of order.entries()) {
    const norm = norms[k]!
    for (let i = 0; i < columns; i++) right[row * columns + i] = norm > 0 ? a.values[k * columns + i]! / norm : 0
    left.set(turned.values.subarray(k * rows, (k + 1) * rows), row * rows)
  }
  return { values: Float64Array.from(order, (k) => norms[k]!), left, right }
}
