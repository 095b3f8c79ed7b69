import { logitsOf } from '../autodiff/loss.js'
import { PeertuneError } from '../base/errors.js'
import { outputsOf, type TaskSpec } from '../base/federation.js'
import { type PeftPlan, specsOf } from '../base/peft-spec.js'
import type { Dim, Graph } from '../onnx/graph.js'
import type { BaseModel } from '../peft/method.js'
import { logitLayers } from '../peft/logit-layers.js'
import { headsOf } from '../peft/methods.js'
import { linearModules, matchModules } from '../peft/target.js'

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

/**
 * The same of what the exporter says the logits' shape is, before anything is built from it; what it leaves open is for
 * `checkLabels` to see. Heads that make the logits give them the width that the task asks for.
 */
export function checkDeclaredLabels(task: TaskSpec, base: BaseModel, peft: PeftPlan): void {
  const name = logitsOf(base.graph)
  const shape = base.graph.outputs.find((output) => output.name === name)?.shape ?? []
  if (shape.length === 0) return
  const classes = outputsOf(task)
  const last = shape.at(-1)
  if (classes === undefined ? shape.length === 3 : typeof last === 'string' || last === classes) return
  if (classes !== undefined && makesLogits(base, peft)) return
  throw doNotFit(task, name, shape)
}

function makesLogits({ graph, weights }: BaseModel, peft: PeftPlan): boolean {
  const heads = matchModules(linearModules(weights), specsOf(peft).flatMap(headsOf))
  const last = logitLayers(graph, weights)
  return heads.some(({ weight }) => last.has(weight.name))
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
