import { BROADCAST_CODECS, type FederationManifest, MIXING_CODECS } from '../../base/federation.js'
import { MAX_AUTHORS } from '../../consensus/broadcast/fixed-point.js'
import { PeertuneError } from '../../base/errors.js'
import { OVERLAY_NAMES } from '../../base/mixing-rules.js'
import { defaultGamma, hasMemory, isSparse } from '../../codec/registry.js'
import { DEFAULT_DEGREE } from '../../consensus/partners/overlay.js'
import { SUGGESTED_MAX_PULL } from '../../consensus/rules/mixing.js'
import { SUGGESTED_CLIP } from '../../consensus/rules/radius.js'
import { MAX_RECENT_STATES } from '../../consensus/rules/robust-rule.js'
import * as f from './fields.js'
import { fieldName } from './config.js'
import { modelSha256 } from './model-hash.js'
import { mostSlots } from './own-plan.js'
import { peftMethod } from './peft-fields.js'
import { sharePatterns } from './shared-part.js'
import { type YamlFile, printYaml, readYamlFile } from '../host/yaml-file.js'

const MAX_LABELS = 10_000
/** Methods on one model. */
const MAX_METHODS = 8
const MAX_PATTERNS = 1000

const labels = f.list(f.text('a label', { max: 256 }), { of: 'labels', min: 2, max: MAX_LABELS, distinct: true })

const task = f.variants('kind', [
  f.section({ kind: f.exactly('causal-lm') }),
  f.section({ kind: f.exactly('sequence-classification'), labels }),
  f.section({ kind: f.exactly('image-classification'), labels }),
  f.section({ kind: f.exactly('instruction-tuning') }),
  f.section({ kind: f.exactly('token-classification'), labels }),
  f.section({ kind: f.exactly('regression') })
])

const peft = f.oneOrMore(peftMethod, { of: 'methods', max: MAX_METHODS })

/** Two rings make a random regular overlay of degree 4; beyond 64 neighbours nobody is met twice in a run. */
const evenDegree = f
  .wholeNumber(2, 64)
  .refine((degree) => degree % 2 === 0, { error: 'an even whole number from 2 to 64' })

const overlay = f.section({
  kind: f.oneOf(OVERLAY_NAMES).default('random'),
  degree: evenDegree.default(DEFAULT_DEGREE)
})

const windowed = {
  window: f.wholeNumber(2, MAX_RECENT_STATES).default(5)
}

const robust = f.variants('rule', [
  f.section({ rule: f.exactly('trimmed-mean'), ...windowed, liars: f.wholeNumber(1, 4).default(2) }),
  f.section({ rule: f.exactly('nnm'), ...windowed, liars: f.wholeNumber(1, 4).default(2) }),
  f.section({ rule: f.exactly('ubar'), ...windowed, share: f.number({ above: 0, max: 1 }).default(0.4) }),
  f.section({
    rule: f.exactly('balance'),
    strictness: f.number({ above: 0, max: 100 }).default(1),
    decay: f.number({ min: 0, max: 100 }).default(1)
  })
])

const momentum = f.variants('kind', [
  f.section({
    kind: f.exactly('outer'),
    decay: f.number({ min: 0, below: 1 }).default(0.5),
    step: f.number({ above: 0, max: 2 }).default(0.7)
  }),
  f.section({ kind: f.exactly('quasi-global'), decay: f.number({ min: 0, below: 1 }).default(0.9) })
])

const broadcastFields = f.section({
  codec: f.oneOf(BROADCAST_CODECS).default('topk-int4'),
  fraction: f.number({ above: 0, max: 0.5 }).default(0.025),
  outerStep: f.number({ above: 0, max: 100 }).default(2),
  resumeAt: f.oneOf(['replica', 'own']).default('own'),
  decay: f.number({ min: 0, max: 1 }).default(0.95),
  maxStep: f.number({ above: 0, max: 1 }).default(1),
  maxNorm: f.number({ above: 0, max: 1_000_000 }).exactOptional(),
  maxAuthors: f.wholeNumber(1, MAX_AUTHORS).default(64),
  authors: f
    .list(f.matching(/^[1-9A-HJ-NP-Za-km-z]{40,64}$/, 'a peer id'), {
      of: 'peer ids',
      min: 1,
      max: MAX_AUTHORS,
      distinct: true
    })
    .exactOptional()
})

const mixingFields = f.section({
  mode: f.oneOf(['pairwise', 'broadcast']).exactOptional(),
  broadcast: broadcastFields.exactOptional(),
  localSteps: f.wholeNumber(1, 1_000_000).default(10),
  codec: f.oneOf(MIXING_CODECS).default('int8'),
  fraction: f.number({ above: 0, max: 0.5 }).exactOptional(),
  gamma: f.number({ above: 0, max: 1 }).exactOptional(),
  clip: f.number({ above: 0, max: 1000 }).exactOptional(),
  maxPull: f.number({ above: 0, max: 1 }).exactOptional(),
  overlay: overlay.exactOptional(),
  robust: robust.exactOptional(),
  momentum: momentum.exactOptional(),
  productAbove: f.number({ min: 0, max: 1000 }).exactOptional(),
  settleExchanges: f.wholeNumber(0, 10_000).default(12),
  isolationFactor: f.number({ min: 1, max: 1_000_000 }).default(10)
})

/** The step that is stable depends on what the codec leaves out, and is written out like every default. */
const mixing = mixingFields
  .refine(({ codec, fraction }) => fraction === undefined || isSparse(codec), {
    path: ['fraction'],
    error: 'nothing, since this codec sends every element'
  })
  .refine(({ clip, robust }) => clip === undefined || robust?.rule !== 'balance', {
    path: ['clip'],
    error: 'nothing, since BALANCE sets the radius'
  })
  .refine(({ mode, broadcast }) => broadcast === undefined || mode === 'broadcast', {
    path: ['broadcast'],
    error: 'nothing, unless mode is broadcast'
  })
  .refine(
    ({ mode, ...of }) => mode !== 'broadcast' || !(of.clip ?? of.maxPull ?? of.overlay ?? of.robust ?? of.momentum),
    {
      path: ['mode'],
      error: 'pairwise, where there is a clip, maxPull, overlay, robust rule or momentum of exchanges'
    }
  )
  .transform((fields) => ({
    ...fields,
    ...(fields.mode === 'broadcast' && { broadcast: fields.broadcast ?? broadcastFields.parse({}) }),
    gamma: fields.gamma ?? defaultGamma(fields.codec, fields.fraction)
  }))

const fields = f.section({
  peertune: f.exactly(1),
  name: f.matching(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'a name of 1 to 64 small letters, digits, dots and dashes'),
  model: f.section({
    sha256: f.matching(/^[0-9a-f]{64}$/, 'the SHA-256 of the base model, 64 hexadecimal digits in lower case')
  }),
  task,
  peft,
  startFrom: f
    .section({ sha256: f.matching(/^[0-9a-f]{64}$/, 'the SHA-256 of adapter_model.safetensors') })
    .exactOptional(),
  share: f
    .oneOrMore(f.text('part of a parameter name such as lora_A, or fedsa-lora', { max: 256 }), {
      of: 'patterns',
      max: MAX_PATTERNS
    })
    .transform(sharePatterns)
    .exactOptional(),
  peerRanks: f.oneOf(['nested', 'product']).exactOptional(),
  mixing: mixing.prefault({})
})

const manifestSchema = fields
  .refine(({ peerRanks, mixing }) => peerRanks === undefined || mixing.mode !== 'broadcast', {
    path: ['peerRanks'],
    error: 'nothing, where peers broadcast: all add up updates of one shape'
  })
  .refine(({ peft, peerRanks }) => peerRanks === undefined || mostSlots(peft) !== undefined, {
    path: ['peerRanks'],
    error: 'nothing, unless all shared low-rank methods have one rank, without ranks by layer and start: svd'
  })
  .refine(({ peerRanks, mixing }) => peerRanks === undefined || mixing.productAbove === undefined, {
    path: ['mixing', 'productAbove'],
    error: 'nothing where peers may differ in rank'
  })
  .refine(({ peerRanks, mixing }) => peerRanks === undefined || mixing.robust === undefined, {
    path: ['mixing', 'robust'],
    error: 'nothing where peers may differ in rank'
  })
  .refine(({ peerRanks, mixing }) => peerRanks === undefined || mixing.momentum?.kind !== 'outer', {
    path: ['mixing', 'momentum'],
    error: 'no outer momentum where peers may differ in rank'
  })
  .refine(({ peerRanks, mixing }) => peerRanks !== 'product' || !hasMemory(mixing.codec), {
    path: ['mixing', 'codec'],
    error: 'a codec without a memory, such as int8, for peerRanks: product'
  })

/** Throws `config/*` errors that name file, line and field, what was expected and what was got. */
export const readManifest = async (file: string): Promise<FederationManifest> => checkManifest(await readYamlFile(file))

function checkManifest(yaml: YamlFile): FederationManifest {
  const origin: f.Origin = (path) =>
    `${yaml.file}:${yaml.line(path)}: ${path.length === 0 ? 'the file' : fieldName(path)}`
  return f.checkFields(manifestSchema, yaml.value, origin)
}

/**
 * A new manifest from parts that still lack their defaults; `where` names them in errors. New federations clip and
 * bound what a claim of many examples is worth; a file that says nothing of it goes on without, since its peers agreed on that.
 */
export function createManifest(parts: Readonly<Record<string, unknown>>, where: f.Origin): FederationManifest {
  const mixing: object = parts.mixing !== null && typeof parts.mixing === 'object' ? parts.mixing : {}
  const inPairs = { clip: SUGGESTED_CLIP, maxPull: SUGGESTED_MAX_PULL }
  const guarded = 'mode' in mixing && mixing.mode === 'broadcast' ? {} : inPairs
  return f.checkFields(manifestSchema, { ...parts, mixing: { ...guarded, ...mixing } }, where)
}

/** The complete manifest as YAML, every default written out. */
export const printManifest = (manifest: FederationManifest): string => printYaml(manifest)

/**
 * The local model must be the federation's. Throws `config/wrong-model`, and `onnx/not-a-model` before it for a file
 * that is no ONNX model at all.
 */
export async function checkModel(manifest: FederationManifest, modelPath: string): Promise<void> {
  const got = await modelSha256(modelPath)
  const expected = manifest.model.sha256
  if (got === expected) return
  const message = `${modelPath}: expected the federation's model (SHA-256 ${expected}), got another file (${got})`
  throw new PeertuneError('config/wrong-model', message, {
    facts: { file: modelPath, expected, got },
    hint: `federation ${manifest.name} trains on one base model only: get that file, or name it in the configuration`
  })
}
