import { logitsOf } from '../../autodiff/loss.js'
import { PeertuneError } from '../../base/errors.js'
import { outputsOf, type TaskSpec } from '../../base/federation.js'
import type { Dim, Graph } from '../../onnx/graph/graph.js'

/**
 * The task's labels must be the classes that the model tells apart: [.., classes], and for a language model one row of
 * logits at every position. Throws `config/labels-do-not-fit`.
 */
export function checkLabels(task: TaskSpec, graph: Graph): void {
  const name = logitsOf(graph)
  const shape = graph.values.get(name)?.shape ?? []
  const classes = outputsOf(task)
  if (classes === undefined ? shape.length === 3 : shape.at(-1) === classes) return
  throw doNotFit(task, name, shape)
}

function doNotFit(task: TaskSpec, name: string, shape: readonly Dim[]): PeertuneError {
  const classes = outputsOf(task)
  const expected =
    classes === undefined
      ? '[batch, sequence, vocabulary]'
      : task.kind === 'regression'
        ? '[batch, 1], one number for each example'
        : `${classes} classes, one for each label`
  return new PeertuneError('config/labels-do-not-fit', `${name} of shape [${shape.join(', ')}]: expected ${expected}`, {
    facts: { output: name, shape: shape.map(String), task: task.kind },
    hint: 'name the layer that makes the logits as head to give it other classes, or take a model with these'
  })
}
