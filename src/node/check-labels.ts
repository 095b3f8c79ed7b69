import { logitsOf } from '../autodiff/loss.js'
import { PeertuneError } from '../base/errors.js'
import { outputsOf, type TaskSpec } from '../base/federation.js'
import { type PeftPlan, specsOf } from '../base/peft-spec.js'
import { canonicalise } from '../onnx/canonicalise.js'
import type { Dim, Graph } from '../onnx/graph.js'
import type { NamedWeights } from '../onnx/weight.js'
import type { BaseModel, PeftMethod } from '../peft/method.js'
import { logitLayers } from '../peft/logit-layers.js'
import { headsOf } from '../peft/methods.js'
import { linearModules, matchModules } from '../peft/target.js'
import { concreteInputs } from './concrete-inputs.js'

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

interface ModelWithMethod {
  readonly model: NamedWeights
  readonly base: BaseModel
  readonly method: PeftMethod
}

/** A batch that says how wide the logits are. */
const SMALL = { batch: 1, seq: 8 }

/**
 * The same before there is a batch. Asks the runtime only where the exporter's own words are against it: they may be wrong.
 * Heads that make the logits give them the width that the task asks for. What a small batch does not tell is left for
 * `checkLabels` to see.
 */
export async function checkDeclaredLabels(
  task: TaskSpec,
  { model, base, method }: ModelWithMethod,
  peft: PeftPlan
): Promise<void> {
  if (isDeclaredFit(task, base.graph) || (outputsOf(task) !== undefined && makesLogits(base, peft))) return
  const inputs = method.graphInputs(concreteInputs(base.graph, SMALL))
  const canonical = await canonicalise(model, inputs).catch(() => undefined)
  if (canonical !== undefined) checkLabels(task, method.rewrite(canonical))
}

/** Whether the exporter says so, or leaves it open. */
function isDeclaredFit(task: TaskSpec, graph: Graph): boolean {
  const name = logitsOf(graph)
  const shape = graph.outputs.find((output) => output.name === name)?.shape ?? []
  if (shape.length === 0) return true
  const [classes, last] = [outputsOf(task), shape.at(-1)]
  return classes === undefined ? shape.length === 3 : typeof last === 'string' || last === classes
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
