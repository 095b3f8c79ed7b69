import * as f from './fields.js'

const MAX_TARGETS = 10_000
const MAX_RANK = 1024
const MAX_VIRTUAL_TOKENS = 4096
const MAX_HEADS = 64
const MAX_LAYERS = 10_000
/** Rounds in which one factor trains. */
const MAX_TURN = 1_000_000

const modules = (what: string, min: number) =>
  f.list(f.text(what, { max: 256 }), { of: 'module names', min, max: MAX_TARGETS, distinct: true })

const common = {
  head: modules('a module such as classifier', 0).default([]),
  seed: f.text('a seed text that all peers share', { max: 256 })
}
const targets = modules('a module such as q_proj', 1)
/** None: all there are. */
const anyTargets = modules('a module such as LayerNorm', 0).default([])

const lowRank = {
  rank: f.wholeNumber(1, MAX_RANK).default(8),
  alpha: f.number({ above: 0, max: 65_536 }).default(16),
  targets,
  ...common
}

const ranks = {
  ranks: f.mapping(f.wholeNumber(1, MAX_RANK), { of: 'ranks by module', max: MAX_TARGETS }).exactOptional()
}

const lora = { ...lowRank, ...ranks, start: f.oneOf(['random', 'svd']).exactOptional() }

const bothFactors = <const Name extends string>(method: Name) =>
  f.section({
    method: f.exactly(method),
    ...lora,
    alternate: f.section({ every: f.wholeNumber(1, MAX_TURN) }).exactOptional(),
    private: f.flag().exactOptional()
  })

const selective = <const Name extends string>(method: Name) =>
  f.section({ method: f.exactly(method), targets: anyTargets, ...common })

const virtualTokens = <const Name extends string>(method: Name) =>
  f.section({ method: f.exactly(method), tokens: f.wholeNumber(1, MAX_VIRTUAL_TOKENS).default(16), ...common })

/** One method of a manifest's `peft`; what the fields mean stands in base/peft-spec.ts. */
export const peftMethod = f.variants('method', [
  bothFactors('lora'),
  bothFactors('rslora'),
  f.section({ method: f.exactly('dora'), ...lowRank, ...ranks }),
  f.section({ method: f.exactly('ffa-lora'), ...lora }),
  f.section({
    method: f.exactly('ia3'),
    targets,
    feedforward: modules('a module such as down_proj', 0).default([]),
    ...common
  }),
  selective('bitfit'),
  selective('layernorm'),
  virtualTokens('prompt'),
  virtualTokens('prefix'),
  f.section({ method: f.exactly('lora-xs'), ...lowRank, heads: f.exactly(1).default(1) }),
  f.section({ method: f.exactly('ravan'), ...lowRank, heads: f.wholeNumber(1, MAX_HEADS).default(4) }),
  f.section({
    method: f.exactly('partial'),
    targets: anyTargets,
    lastLayers: f.wholeNumber(0, MAX_LAYERS).default(0),
    ...common
  }),
  f
    .section({
      method: f.exactly('sparse'),
      targets,
      density: f.number({ above: 0, max: 1 }).default(0.01),
      mask: f.oneOf(['random', 'magnitude', 'fisher']).default('random'),
      maskSha256: f.matching(/^[0-9a-f]{64}$/, 'the SHA-256 of the mask file').exactOptional(),
      ...common
    })
    .refine(({ mask, maskSha256 }) => (mask === 'fisher') === (maskSha256 !== undefined), {
      path: ['maskSha256'],
      error: 'the SHA-256 of the mask file for mask: fisher, and nothing for the others'
    }),
  f.section({
    method: f.exactly('bottleneck'),
    placement: f.oneOf(['houlsby', 'pfeiffer']).default('pfeiffer'),
    targets: anyTargets,
    width: f.wholeNumber(1, MAX_RANK).default(16),
    activation: f.oneOf(['relu', 'gelu']).default('gelu'),
    ...common
  }),
  f.section({ method: f.exactly('full'), seed: common.seed })
])
