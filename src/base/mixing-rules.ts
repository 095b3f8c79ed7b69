/** Who mixes with whom, and by which rule: the parts of a federation's `mixing` that are optional. */

export const OVERLAY_NAMES = ['random', 'ring', 'torus', 'random-regular', 'exponential', 'complete'] as const

/** `random`: a fresh partner each time, pairs average. The others: neighbours only, with Metropolis-Hastings weights. */
export interface OverlaySpec {
  readonly kind: (typeof OVERLAY_NAMES)[number]
  /** Neighbours on a random regular overlay, an even number. */
  readonly degree: number
}

/**
 * Rules that weigh several partners' states against each other, or refuse one whole. None but BALANCE keeps the network's
 * mean: each side decides by what it alone has seen.
 */
export type RobustSpec =
  /** Of ourselves and the last `window` partners, by coordinate, or after nearest-neighbour mixing; `liars` may lie. */
  | { readonly rule: 'trimmed-mean' | 'nnm'; readonly window: number; readonly liars: number }
  /** UBAR: distance first, then the loss on our own data; `share` of the partners are near enough to be asked. */
  | { readonly rule: 'ubar'; readonly window: number; readonly share: number }
  /** All of the way or none, by a radius that shrinks; both sides come to the same, so the mean is kept. */
  | { readonly rule: 'balance'; readonly strictness: number; readonly decay: number }

export type MomentumSpec =
  /** NoLoCo's outer momentum on what the exchanges have come to. */
  | { readonly kind: 'outer'; readonly decay: number; readonly step: number }
  /** The local optimiser's momentum follows the way of the mixed parameters; `decay` is mu. */
  | { readonly kind: 'quasi-global'; readonly decay: number }
