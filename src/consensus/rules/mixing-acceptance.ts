/** A partner's vector as a test of acceptance sees it. */
export interface Candidate {
  /** From our own vector to the candidate's. */
  readonly distance: number
  /** Mean loss of the candidate's parameters on a batch of ours, in nats; only rules that ask for it have it. */
  readonly loss?: number
}

/** Ourselves, and how far we are. */
export interface OwnPlace {
  /**
   * Our distance from initialisation, the common start, by the same measure as the distances to others. Not the norm of
   * the parameters: of an adapter that is mostly the random A it started with, beside which every lie is small.
   */
  readonly distanceFromStart: number
  readonly loss?: number
  /** Share of the planned steps taken, in [0, 1]. */
  readonly progress: number
}

/** May this partner's vector enter ours? Pure. One that is refused by one side only moves the pair's mean. */
export type AcceptanceTest = (own: OwnPlace, candidate: Candidate) => boolean

export interface BalanceOptions {
  /** The paper's gamma: share of our distance from the start that a partner may be away from us at first. Default 0.3, its. */
  readonly strictness?: number
  /** kappa: how much nearer it must be at the end, as an exponent. Default 1, the paper's. */
  readonly decay?: number
}

/**
 * strictness * exp(-decay * progress) times our distance from the start: BALANCE (Fang et al. 2024, https://arxiv.org/abs/2406.10416, equation
 * 3) accepts what is within it. In an exchange the two sides announce that radius and take the smaller
 * (exchange/step-agreement.ts), so that both accept or neither.
 */
export const balanceRadius = (
  { strictness = 0.3, decay = 1 }: BalanceOptions,
  { distanceFromStart, progress }: Pick<OwnPlace, 'distanceFromStart' | 'progress'>
): number => strictness * Math.exp(-decay * progress) * distanceFromStart

/** The second half of UBAR: only what does no worse on our own data than we do. A candidate without a loss is refused. */
export const lossTest: AcceptanceTest = (own, { loss }) =>
  loss !== undefined && own.loss !== undefined && loss <= own.loss

/**
 * UBAR (Guo et al. 2021, https://arxiv.org/abs/2007.12308): of the candidates the `share` nearest to us (rounded up), those
 * that pass the loss test; if none does, the nearest. Indices into `candidates`, nearest first.
 */
export function ubarSelection(own: OwnPlace, candidates: readonly Candidate[], share = 0.4): readonly number[] {
  const nearest = candidates
    .map(({ distance }, index) => ({ distance, index }))
    .sort((a, b) => a.distance - b.distance || a.index - b.index)
    .slice(0, Math.ceil(share * candidates.length))
    .map(({ index }) => index)
  const passing = nearest.filter((index) => lossTest(own, candidates[index]!))
  return passing.length > 0 ? passing : nearest.slice(0, 1)
}
