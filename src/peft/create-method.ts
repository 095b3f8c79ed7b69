import type { PeftSpec, TaskSpec } from '../base/federation.js'
import { createSchema } from '../tensor/schema.js'
import { createFull } from './full.js'
import { createHead } from './head.js'
import { createLora } from './lora.js'
import type { Adapter, BaseModel, PeftMethod } from './method.js'
import { linearModules, matchModules } from './target.js'

/**
 * The method that a federation's manifest asks for, on this base model. Every peer gets the same schema and the same
 * start from the same manifest. Throws `config/no-such-module`.
 */
export function createMethod(spec: PeftSpec, base: BaseModel, task: TaskSpec): PeftMethod {
  const adapters = spec.method === 'full' ? [createFull(base)] : loraAdapters(spec, base, task)
  const tensors = adapters.flatMap((adapter) => adapter.tensors)
  const schema = createSchema(tensors)
  const initial = new Float32Array(schema.size)
  for (const [index, { offset }] of schema.entries.entries()) initial.set(tensors[index]?.initial ?? [], offset)
  return {
    schema,
    initial,
    rewrite: (graph) => adapters.reduce((rewritten, adapter) => adapter.rewrite(rewritten), graph)
  }
}

function loraAdapters(spec: Extract<PeftSpec, { method: 'lora' }>, base: BaseModel, task: TaskSpec): Adapter[] {
  const linears = linearModules(base.weights)
  const heads = matchModules(linears, spec.head)
  const targets = matchModules(linears, spec.targets).filter((target) => !heads.includes(target))
  const labels = task.kind === 'causal-lm' ? undefined : task.labels.length
  const lora = createLora({ modules: targets, rank: spec.rank, alpha: spec.alpha, seed: spec.seed })
  return [lora, ...heads.map((module) => createHead({ module, base, labels, seed: spec.seed }))]
}
