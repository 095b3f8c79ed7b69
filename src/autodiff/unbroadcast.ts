import type { Shape } from '../tensor/schema.js'
import type { Ops } from './ops.js'
import { equalShapes, range } from './shape.js'

/**
 * Undoes NumPy broadcasting: sums `gradient`, whose shape `target` was broadcast to, over every axis that was
 * repeated, and gives it the shape `target`. The one place where this happens; rules need not think of it.
 */
export function unbroadcast(op: Ops, gradient: string, target: Shape): string {
  const shape = op.shape(gradient)
  if (equalShapes(shape, target)) return gradient
  const leading = shape.length - target.length
  const repeated = range(shape.length).filter((axis) => axis < leading || target[axis - leading] !== shape[axis])
  return op.reshape(op.reduceSum(gradient, repeated), target)
}
