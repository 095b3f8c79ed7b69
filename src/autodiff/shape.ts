import { PeertuneError } from '../base/errors.js'
import type { Shape } from '../tensor/schema.js'

export const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

export const equalShapes = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((dim, index) => dim === b[index])

/** NumPy broadcasting of two static shapes. Throws `autodiff/shape-mismatch`. */
export function broadcastShape(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length)
  return range(rank).map((index) => {
    const x = a[index - rank + a.length] ?? 1
    const y = b[index - rank + b.length] ?? 1
    if (x === y || y === 1) return x
    if (x === 1) return y
    throw new PeertuneError('autodiff/shape-mismatch', `shapes [${a}] and [${b}] do not broadcast`, {
      facts: { a, b, axis: index }
    })
  })
}

/** An axis counted from 0; negative axes count from the end. */
export const resolveAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis)
