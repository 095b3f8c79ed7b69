import { PeertuneError } from '../../base/errors.js'
import type { Rng } from '../../base/rng.js'
import { orthonormalise } from '../../tensor/orthonormal.js'

/** float32[rows, columns] with orthonormal rows, drawn from `rng`. Throws `config/rank-too-large` beyond a square. */
export function orthonormalRows(rng: Rng, rows: number, columns: number): Float32Array {
  if (rows > columns)
    throw new PeertuneError('config/rank-too-large', `${rows} orthonormal rows do not fit into ${columns} features`, {
      facts: { rank: rows, features: columns },
      hint: 'lower the rank or the number of heads, or leave this module out'
    })
  const matrix = Float64Array.from({ length: rows * columns }, () => 2 * rng.uniform() - 1)
  orthonormalise(matrix, rows, columns)
  return Float32Array.from(matrix)
}
