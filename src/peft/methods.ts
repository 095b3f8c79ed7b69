import {
  type CoreSpec,
  isPrivate,
  type LoraSpec,
  type PeftMethodName,
  type PeftSpec,
  type SelectiveSpec
} from '../base/peft-spec.js'
import { outputsOf, type TaskSpec } from '../base/federation.js'
import { PeertuneError } from '../base/errors.js'
import type { Weight } from '../onnx/graph/weight.js'
import { biasesOf, createBitfit } from './methods/bitfit.js'
import { createBottleneck, placementTargets } from './methods/bottleneck.js'
import { createCore } from './methods/core.js'
import { createDora } from './methods/dora.js'
import { createFull } from './methods/full.js'
import { createHead } from './methods/head.js'
import { createIa3 } from './methods/ia3.js'
import { createLayerNorm, normalisationsOf } from './methods/layer-norm.js'
import { createLora, type LowRankModule } from './methods/lora.js'
import { logitLayers } from './rewrite/logit-layers.js'
import { rankedModules } from './methods/low-rank.js'
import type { Adapter, BaseModel } from './method/method.js'
import { createPartial, partsOf } from './methods/partial.js'
import { createSparse } from './methods/sparse.js'
import { createPrefix, keyWidths } from './methods/prefix.js'
import { createPrompt } from './methods/prompt.js'
import { isMeantBy } from '../base/name-pattern.js'
import { svdStart } from './methods/svd-start.js'
import { type LinearModule, linearModules, matchModules } from './method/target.js'
import { requireTokens } from './rewrite/virtual-tokens.js'

/** The three families of the survey by Bian et al. (https://arxiv.org/abs/2504.21099). */
export type Family = 'additive' | 'selective' | 'reparameterized'

/** What a method is, and how its adapters come about. */
interface MethodEntry<Name extends PeftMethodName> {
  readonly family: Family
  /** The model is linear in what each layer trains, so that the mean of parameters is the mean of effective weights. */
  readonly linear: boolean
  create(spec: Extract<PeftSpec, { method: Name }>, context: MethodContext): Adapter[]
}

export interface MethodContext {
  readonly base: BaseModel
  /** Linear layers that a method may touch: all but the heads. */
  readonly linears: readonly LinearModule[]
}

const lora = <Name extends 'lora' | 'rslora' | 'ffa-lora'>(linear: boolean, freezeA: boolean): MethodEntry<Name> => ({
  family: 'reparameterized',
  linear,
  create: (spec: LoraSpec, { base, linears }) => {
    const { seed, start } = spec
    const startOf = start === 'svd' ? { startOf: (module: LowRankModule) => svdStart(module, base, seed) } : {}
    const modules = rankedModules(spec, linears)
    return [createLora({ modules, seed, freezeA, isPrivate: isPrivate(spec as PeftSpec), ...startOf })]
  }
})

const core = <Name extends 'lora-xs' | 'ravan'>(headed: boolean): MethodEntry<Name> => ({
  family: 'reparameterized',
  linear: true,
  create: (spec: CoreSpec, { linears }) => [
    createCore({ modules: rankedModules(spec, linears), heads: headed ? spec.heads : undefined, seed: spec.seed })
  ]
})

/** Every method of a name of PeftMethodName. */
type Table = { readonly [Name in PeftMethodName]: MethodEntry<Name> }

export const METHODS: Table = {
  lora: lora(false, false),
  rslora: lora(false, false),
  'ffa-lora': lora(true, true),
  dora: {
    family: 'reparameterized',
    linear: false,
    create: (spec, { base, linears }) => [createDora({ modules: rankedModules(spec, linears), base, seed: spec.seed })]
  },
  'lora-xs': core(false),
  ravan: core(true),
  ia3: {
    family: 'additive',
    linear: true,
    create({ targets, feedforward }, { linears }) {
      const inputs = feedforward.length === 0 ? [] : matchModules(linears, feedforward)
      return [
        createIa3(matchModules(linears, targets).map((module) => ({ ...module, feedforward: inputs.includes(module) })))
      ]
    }
  },
  bitfit: {
    family: 'selective',
    linear: true,
    create: (spec, { base }) => [createBitfit(chosen(spec, biasesOf(base), 'bias'), base)]
  },
  layernorm: {
    family: 'selective',
    linear: true,
    create: (spec, { base }) => [createLayerNorm(chosen(spec, normalisationsOf(base), 'normalisation'), base)]
  },
  prompt: {
    family: 'additive',
    linear: true,
    create: ({ tokens, seed }, { base }) => [createPrompt({ tokens, base, seed })]
  },
  prefix: {
    family: 'additive',
    linear: true,
    create({ tokens, seed }, { base, linears }) {
      requireTokens(base.graph)
      const widths = keyWidths(linears)
      if (widths.length === 0)
        throw new PeertuneError('config/no-attention', 'prefix tuning knows no projection of this model for keys', {
          hint: 'choose another method for this model'
        })
      return [createPrefix({ tokens, layers: widths.length, width: widths[0] ?? 0, seed })]
    }
  },
  partial: {
    family: 'selective',
    linear: true,
    create: (spec, { base }) => [createPartial(partsOf(spec, withoutHeads([...base.weights.values()], spec)), base)]
  },
  sparse: {
    family: 'selective',
    linear: true,
    create: ({ targets, ...options }, { base, linears }) => [
      createSparse({ ...options, modules: matchModules(linears, targets), base })
    ]
  },
  bottleneck: {
    family: 'additive',
    linear: false,
    create({ targets, placement, ...options }, { linears }) {
      const modules = targets.length === 0 ? placementTargets(linears, placement) : matchModules(linears, targets)
      if (modules.length > 0) return [createBottleneck({ ...options, modules })]
      throw new PeertuneError('config/nothing-to-train', `no place for ${placement} adapters is known in this model`, {
        hint: 'name the layers to put them behind as targets'
      })
    }
  },
  full: { family: 'selective', linear: true, create: (_spec, { base }) => [createFull(base)] }
}

/** Those of the weights that the targets name; all without targets. The heads' own are left to the heads. */
function chosen(spec: SelectiveSpec, all: readonly Weight[], what: string): Weight[] {
  const { targets, method } = spec
  const free = withoutHeads(all, spec)
  for (const target of targets)
    if (!free.some(({ module }) => isMeantBy(target, module)))
      throw new PeertuneError('config/no-such-module', `the model has no ${what} in a module called ${target}`, {
        facts: { name: target, available: [...new Set(free.map(({ module }) => module))] },
        hint: 'peertune inspect lists the modules of a model'
      })
  const meant = targets.length === 0 ? free : free.filter(({ module }) => targets.some((t) => isMeantBy(t, module)))
  if (meant.length > 0) return meant
  throw new PeertuneError('config/nothing-to-train', `${method}: the model has no ${what}`, {
    hint: 'choose another method for this model'
  })
}

const withoutHeads = (all: readonly Weight[], { head }: Pick<SelectiveSpec, 'head'>): Weight[] =>
  all.filter(({ module }) => !head.some((name) => module === name || module.endsWith(`.${name}`)))

/** The adapters of one method, in the order in which they are put into the graph; heads are made apart. */
export function adaptersOf(spec: PeftSpec, base: BaseModel): Adapter[] {
  const linears = linearModules(base.weights)
  const heads = matchModules(linears, headsOf(spec))
  const context = { base, linears: linears.filter((module) => !heads.includes(module)) }
  const { create } = METHODS[spec.method] as MethodEntry<PeftMethodName>
  return create(spec, context)
}

const headsOf = (spec: PeftSpec): readonly string[] => (spec.method === 'full' ? [] : spec.head)

/** The heads of all methods, each once. */
export function headAdapters(specs: readonly PeftSpec[], base: BaseModel, task: TaskSpec): Adapter[] {
  const classes = outputsOf(task)
  const last = logitLayers(base.graph, base.weights)
  const linears = linearModules(base.weights)
  const seen = new Set<LinearModule>()
  return specs.flatMap((spec) =>
    matchModules(linears, headsOf(spec)).flatMap((module) => {
      if (seen.has(module)) return []
      seen.add(module)
      const labels = last.has(module.weight.name) ? classes : undefined
      return createHead({ module, base, labels, seed: spec.seed })
    })
  )
}
