import type { Weight } from '../../onnx/graph/weight.js'
import type { Shape } from '../../tensor/schema.js'

interface Matrix {
  readonly transposed: boolean
  /** Shape in the graph. */
  readonly shape: Shape
}

/** Shape of a weight as Hugging Face stores it. */
export const huggingFaceShape = ({ transposed, initializer }: Weight): Shape =>
  transposed ? initializer.shape.toReversed() : initializer.shape

/** Values of a weight in Hugging Face's layout, from those in the graph's. */
export function huggingFaceValues(values: Float32Array, { transposed, shape }: Matrix): Float32Array {
  if (!transposed) return values
  const [rows = 0, columns = 0] = shape
  return Float32Array.from(
    { length: values.length },
    (_, index) => values[(index % rows) * columns + Math.floor(index / rows)] as number
  )
}
