import { LABELS } from '../../autodiff/loss.js'
import { predictsTokens, type TaskSpec } from '../../base/federation.js'
import type { Graph } from '../../onnx/graph/graph.js'
import type { Shape } from '../../tensor/schema.js'
import type { BatchShapes } from '../../train/step/program.js'

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

const SMALL = { batch: 2, seq: 8 }

/** Shapes of a batch of two examples, of eight tokens where they have tokens. */
export function smallBatch({ kind }: TaskSpec, graph: Graph): BatchShapes {
  const { batch, seq } = SMALL
  const byToken = predictsTokens(kind) || kind === 'token-classification'
  return { ...concreteInputs(graph, SMALL), [LABELS]: byToken ? [batch, seq] : [batch] }
}
