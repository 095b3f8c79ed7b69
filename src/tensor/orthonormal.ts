/**
 * Makes the rows of float64[rows, columns] orthonormal, in place: Gram-Schmidt, each row twice against those before it
 * ("twice is enough", Giraud et al. 2005). Only + - * / and square roots, in a fixed order: the same bits on every
 * machine. A row that depends on those before it becomes zero.
 */
export function orthonormalise(matrix: Float64Array, rows: number, columns: number): void {
  for (let r = 0; r < rows; r++) {
    const row = matrix.subarray(r * columns, (r + 1) * columns)
    const before = norm(row)
    for (let pass = 0; pass < 2; pass++)
      for (let q = 0; q < r; q++) {
        const other = matrix.subarray(q * columns, (q + 1) * columns)
        let projection = 0
        for (let i = 0; i < columns; i++) projection += row[i]! * other[i]!
        for (let i = 0; i < columns; i++) row[i]! -= projection * other[i]!
      }
    const length = norm(row)
    const isDependent = length <= before * DEPENDENT
    for (let i = 0; i < columns; i++) row[i] = isDependent ? 0 : row[i]! / length
  }
}

/** What is left of a row, as a share of it, when nothing but rounding is left. */
const DEPENDENT = 1e-12

function norm(row: Float64Array): number {
  let sum = 0
  for (let i = 0; i < row.length; i++) sum += row[i]! * row[i]!
  return Math.sqrt(sum)
}
