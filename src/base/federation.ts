import { canonicalJson, sha256Hex } from './bytes.js'
import type { MomentumSpec, OverlaySpec, RobustSpec } from './mixing-rules.js'
import type { PeftPlan } from './peft-spec.js'

export type { PeftPlan, PeftSpec } from './peft-spec.js'

/** What the model is trained to do; decides the loss, the labels and the metric. */
export type TaskSpec =
  /** Next-token prediction. Metric: mean cross entropy in nats per token (lower is better). */
  | { readonly kind: 'causal-lm' }
  /** One label per sequence. Metric: accuracy. */
  | { readonly kind: 'sequence-classification'; readonly labels: readonly string[] }
  /** One label per image. Metric: accuracy. */
  | { readonly kind: 'image-classification'; readonly labels: readonly string[] }
  /** Next-token prediction in conversations, on what the assistant says alone. Metric: that of `causal-lm`. */
  | { readonly kind: 'instruction-tuning' }
  /** One label per word of a sequence, e.g. names of people. Metric: accuracy over the words. */
  | { readonly kind: 'token-classification'; readonly labels: readonly string[] }
  /** One number per example; the model ends in [batch, 1]. Metric: mean squared error (lower is better). */
  | { readonly kind: 'regression' }

/** What is read off an evaluation to say how good a model is. */
export type Metric = 'accuracy' | 'loss' | 'mse'

export const metricOf = ({ kind }: TaskSpec): Metric =>
  kind === 'regression' ? 'mse' : predictsTokens(kind) ? 'loss' : 'accuracy'

/** Tasks of a language model, whose labels are the next tokens. */
export const predictsTokens = (kind: TaskSpec['kind']): boolean => kind === 'causal-lm' || kind === 'instruction-tuning'

/** Width of the logits that a task asks for; undefined: the vocabulary. */
export const outputsOf = (task: TaskSpec): number | undefined =>
  'labels' in task ? task.labels.length : task.kind === 'regression' ? 1 : undefined

/**
 * How parameters are coded for a partner. Without `-edge`: as their difference from the common start, each exchange by
 * itself. With it, and in `powergossip`: against what this partner has been told before, so that what a coarse or sparse
 * code leaves out is made up for later.
 */
export const MIXING_CODECS = [
  'float32',
  'float16',
  'int8',
  'int4',
  'int8-edge',
  'int4-edge',
  'topk-edge',
  'topk-int4-edge',
  'rank-slots-edge',
  'powergossip'
] as const

export type MixingCodec = (typeof MIXING_CODECS)[number]

/** How peers of different ranks mix. */
export type PeerRanks = 'nested' | 'product'

/** What is broadcast, with `mode: broadcast`. */
export const BROADCAST_CODECS = ['int8', 'int4', 'topk', 'topk-int4'] as const

/** Updates to everybody, for small federations with thin uplinks. */
export interface BroadcastSpec {
  readonly codec: (typeof BROADCAST_CODECS)[number]
  /** Share of the elements that a sparse codec sends. */
  readonly fraction: number
  /** What the weighted mean of all pseudo-gradients is multiplied by. */
  readonly outerStep: number
  /** What is left, from one update to the next, of what the codec left out. */
  readonly decay: number
  /** Where a peer trains on once it has told: at the replica, or there and what it has left out itself. */
  readonly resumeAt: 'replica' | 'own'
  /** The most that one update may move one parameter, in (0, 1]. */
  readonly maxStep: number
  /** Pseudo-gradients of a larger Euclidean norm are scaled down to it. Absent: none are. */
  readonly maxNorm?: number
  /** Authors whose updates count; beyond it newcomers are refused. */
  readonly maxAuthors: number
  /** Peer ids of the only authors there are. Absent: whoever comes. */
  readonly authors?: readonly string[]
}

/** How peers mix. */
export interface MixingSpec {
  /** Absent: `pairwise`, exchanges of two. */
  readonly mode?: 'pairwise' | 'broadcast'
  /** With `mode: broadcast` and only then; `codec` to `momentum` below are of exchanges, save `localSteps`. */
  readonly broadcast?: BroadcastSpec
  /** Local optimiser steps between exchanges (H of algorithms with local steps). */
  readonly localSteps: number
  readonly codec: MixingCodec
  /** Share of the elements that a sparse codec (`topk`, `rank-slots`) sends, in (0, 0.5]. */
  readonly fraction?: number
  /** The mixing step, towards the partner: 1 moves a pair of equal weight to their mean. In (0, 1]. */
  readonly gamma: number
  /**
   * A partner is followed up to this many times the median distance to our partners: what protects a federation from peers
   * that lie. Absent: all the way, whatever it sends.
   */
  readonly clip?: number
  /**
   * The share of the way to a partner that one exchange takes either side at most, in (0, 1], however many examples the
   * partner claims to have. Absent: as much as the claim is worth, up to all of it.
   */
  readonly maxPull?: number
  /** Absent: `random`. */
  readonly overlay?: OverlaySpec
  /** Absent: the weighted mean of the pair. */
  readonly robust?: RobustSpec
  /** Absent: none. */
  readonly momentum?: MomentumSpec
  /**
   * The cross term, as a share of the mean product, above which a pair averages the products of its factors in place of the
   * factors: for federations of many local steps. Absent: never.
   */
  readonly productAbove?: number
  /** Gossip-only exchanges per peer after the last local step, learning rate 0. */
  readonly settleExchanges: number
  /**
   * Local steps a peer may take since its last exchange, or its last contact where peers broadcast, as a multiple of
   * `localSteps`; one that knows others waits beyond that.
   */
  readonly isolationFactor: number
}

/**
 * The agreement every peer of one federation shares, and nothing local. Its hash is in the topic name,
 * the stream handshake and the checkpoint; peers of another manifest are refused with a reason.
 */
export interface FederationManifest {
  readonly peertune: 1
  readonly name: string
  /** SHA-256 (hex) of the base model's ONNX file and, where it has one, its external data file. */
  readonly model: { readonly sha256: string }
  readonly task: TaskSpec
  readonly peft: PeftPlan
  /** SHA-256 (hex) of the `adapter_model.safetensors` that all peers start from; without it, the seeded start. */
  readonly startFrom?: { readonly sha256: string }
  /** Patterns of parameter names that are exchanged, e.g. `lora_A`; the others never leave the node. All without it. */
  readonly share?: readonly string[]
  /**
   * Peers may have fewer rank slots than `peft` says (heads, in RAVAN), each as many as its own configuration says: then
   * `nested` averages each slot over those that have it, `product` what all slots together do. Absent: all have as many.
   */
  readonly peerRanks?: PeerRanks
  readonly mixing: MixingSpec
}

/** SHA-256 (hex) of the manifest's canonical JSON. */
export const federationHash = (manifest: FederationManifest): string => sha256Hex(canonicalJson(manifest))
