import type { Graph } from '../onnx/graph.js'
import type { Shape } from '../tensor/schema.js'

/** The first symbolic axis is the batch, later ones are the sequence. */
export const concreteInputs = (
  { inputs }: Graph,
  { batch, seq }: { readonly batch: number; readonly seq: number }
): Record<string, Shape> =>
  Object.fromEntries(
    inputs.map(({ name, shape }) => [
      name,
      shape.map((dim, axis) => (typeof dim === 'number' ? dim : axis === 0 ? batch : seq))
    ])
  )
