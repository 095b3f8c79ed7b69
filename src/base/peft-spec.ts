type LoraName = 'lora' | 'rslora' | 'dora' | 'ffa-lora'
type CoreName = 'lora-xs' | 'ravan'
type SelectiveName = 'bitfit' | 'layernorm'
type VirtualTokensName = 'prompt' | 'prefix'

/** What every method has in common. */
interface Common {
  /** Module path suffixes of linear layers trained whole (a classification head), e.g. `classifier`. */
  readonly head: readonly string[]
  /** Every peer derives the same start from it. */
  readonly seed: string
}

interface Targeted extends Common {
  /** Module path suffixes or whole paths, e.g. `q_proj` or `model.layers.0.self_attn.q_proj`. */
  readonly targets: readonly string[]
}

interface LowRank extends Targeted {
  readonly rank: number
  /** The update is scaled by alpha / rank, in rank-stabilised LoRA by alpha / sqrt(rank). */
  readonly alpha: number
}

/** Low-rank updates with both factors trained, or (`ffa-lora`) the first frozen. */
export interface LoraSpec<Name extends LoraName = LoraName> extends LowRank {
  readonly method: Name
  /** Ranks of some modules that are not `rank`, by module path or path pattern (PEFT's `rank_pattern`). */
  readonly ranks?: Readonly<Record<string, number>>
  /** Where the factors start: seeded and zero, or at the base weight's largest singular values. */
  readonly start?: 'random' | 'svd'
  /** One factor trains at a time, B first; both are mixed always. Absent: both train. */
  readonly alternate?: {
    /** Rounds of `localSteps` local steps before the other factor's turn. */
    readonly every: number
  }
  /** It never leaves the peer that trains it, and may lie on layers that a shared adapter changes, too. */
  readonly private?: boolean
}

/** Frozen orthonormal bases; a core of rank x rank is trained, or several of them side by side. */
export interface CoreSpec<Name extends CoreName = CoreName> extends LowRank {
  readonly method: Name
  /** Cores side by side; 1 for `lora-xs`. */
  readonly heads: number
}

export interface Ia3Spec extends Targeted {
  readonly method: 'ia3'
  /** Those of `targets` whose input is scaled, not the output. */
  readonly feedforward: readonly string[]
}

/** Parts of the base model trained from their own values; no targets: all there are. */
export interface SelectiveSpec<Name extends SelectiveName = SelectiveName> extends Targeted {
  readonly method: Name
}

export interface PartialSpec extends Targeted {
  readonly method: 'partial'
  /** Blocks counted from the end, whole, besides `targets`. */
  readonly lastLayers: number
}

export interface SparseSpec extends Targeted {
  readonly method: 'sparse'
  /** Share of a weight's elements that train, in (0, 1]. */
  readonly density: number
  /** Drawn from the seed, the largest base weights, or those with the most Fisher information, from a file. */
  readonly mask: 'random' | 'magnitude' | 'fisher'
  /** SHA-256 (hex) of the file that a `fisher` mask stands in. */
  readonly maskSha256?: string
}

export interface VirtualTokensSpec<Name extends VirtualTokensName = VirtualTokensName> extends Common {
  readonly method: Name
  readonly tokens: number
}

export interface BottleneckSpec extends Targeted {
  readonly method: 'bottleneck'
  /** Without targets: behind attention and feed-forward (`houlsby`) or behind feed-forward only (`pfeiffer`). */
  readonly placement: 'houlsby' | 'pfeiffer'
  /** Width of the middle. */
  readonly width: number
  readonly activation: 'relu' | 'gelu'
}

/** One method: which parameters train, and from which start. */
export type PeftSpec =
  | LoraSpec<'lora'>
  | LoraSpec<'rslora'>
  | LoraSpec<'dora'>
  | LoraSpec<'ffa-lora'>
  | CoreSpec<'lora-xs'>
  | CoreSpec<'ravan'>
  | Ia3Spec
  | SelectiveSpec<'bitfit'>
  | SelectiveSpec<'layernorm'>
  | PartialSpec
  | SparseSpec
  | VirtualTokensSpec<'prompt'>
  | VirtualTokensSpec<'prefix'>
  | BottleneckSpec
  | { readonly method: 'full'; readonly seed: string }

export type PeftMethodName = PeftSpec['method']

/** One method, or several at once on one model. */
export type PeftPlan = PeftSpec | readonly PeftSpec[]

export const specsOf = (plan: PeftPlan): readonly PeftSpec[] => ('method' in plan ? [plan] : plan)

/** What a peer keeps for itself of its plan. */
export const isPrivate = (spec: PeftSpec): boolean => 'private' in spec && spec.private === true
