import type { TaskSpec } from '../base/federation.js'
import { PeertuneError } from '../base/errors.js'
import { type PeftPlan, specsOf } from '../base/peft-spec.js'
import { createSchema, viewOf } from '../tensor/schema.js'
import { createMergeTarget } from './method/merge-target.js'
import type { Adapter, BaseModel, NamedTensor, PeftMethod } from './method/method.js'
import { adaptersOf, headAdapters } from './methods.js'
import { makeRoom, putInFront } from './rewrite/virtual-tokens.js'

/**
 * The method (or methods) that a federation's manifest asks for, on this base model. Every peer gets the same schema and
 * the same start from the same manifest. Throws `config/no-such-module`, `config/nothing-to-train` and other `config/*`
 * errors for what this model does not have.
 */
export function createMethod(plan: PeftPlan, base: BaseModel, task: TaskSpec): PeftMethod {
  const specs = specsOf(plan)
  const adapters = [...specs.flatMap((one) => adaptersOf(one, base)), ...headAdapters(specs, base, task)]
  refuseTwice(adapters)
  const tensors = adapters.flatMap((adapter) => adapter.tensors)
  const schema = createSchema(tensors)
  const initial = new Float32Array(schema.size)
  for (const [index, entry] of schema.entries.entries()) initial.set(tensors[index]?.initial ?? [], entry.offset)
  const virtualTokens = virtualTokensOf(adapters)
  const frozen = adapters.flatMap((adapter) =>
    (adapter.frozen ?? []).map(({ name, shape, initial: values }) => ({ name, shape, values }))
  )
  const valuesOf = (parameters: Float32Array): ReadonlyMap<string, Float32Array> =>
    new Map([
      ...schema.entries.map((entry) => [entry.name, viewOf(parameters, entry)] as const),
      ...frozen.map(({ name, values }) => [name, values] as const)
    ])
  return {
    schema,
    initial,
    frozen,
    virtualTokens,
    detached: adapters.flatMap((adapter) => adapter.detached ?? []),
    graphInputs: (batch) => makeRoom(batch, base.graph, virtualTokens),
    rewrite: (graph, labels) =>
      adapters.reduce((rewritten, adapter) => adapter.rewrite(rewritten), putInFront(graph, virtualTokens, labels)),
    exported(parameters) {
      const values = valuesOf(parameters)
      return adapters.flatMap((adapter) => adapter.exported?.(values) ?? asTheyAre(adapter, values))
    },
    merge(parameters) {
      if (adapters.some(({ merge }) => merge === undefined)) return undefined
      const target = createMergeTarget(base)
      for (const adapter of adapters) adapter.merge?.(target, valuesOf(parameters))
      return target.changed()
    }
  }
}

const asTheyAre = ({ tensors, frozen = [] }: Adapter, values: ReadonlyMap<string, Float32Array>): NamedTensor[] =>
  [...tensors, ...frozen].map(({ name, shape }) => ({ name, shape, values: values.get(name) as Float32Array }))

/**
 * What two methods on one layer would mean depends on their order in ways nobody expects. Sums do not: of two adapters
 * that add to a layer's output, one shared and one private, each has its own meaning.
 */
function refuseTwice(adapters: readonly Adapter[]): void {
  const seen = new Map<string, Adapter[]>()
  for (const adapter of adapters)
    for (const path of adapter.wraps ?? []) {
      const there = seen.get(path) ?? []
      seen.set(path, [...there, adapter])
      const [first, ...more] = there
      if (first === undefined || (more.length === 0 && areDual(first, adapter))) continue
      throw new PeertuneError('config/module-twice', `two methods would change the output of ${path}`, {
        facts: { module: path },
        hint: 'give each method targets of its own, or make one of two low-rank ones private; biases, normalisations and heads may be trained beside any'
      })
    }
}

const areDual = (one: Adapter, other: Adapter): boolean =>
  one.adds === true && other.adds === true && (one.isPrivate ?? false) !== (other.isPrivate ?? false)

function virtualTokensOf(adapters: readonly Adapter[]): number {
  const counts = adapters.flatMap(({ virtualTokens }) => virtualTokens ?? [])
  if (counts.length <= 1) return counts[0] ?? 0
  throw new PeertuneError('config/two-prompts', 'only one method can put tokens in front of the sequence', {
    hint: 'choose prompt or prefix'
  })
}
