import { lowerMedian } from './median.js'

/** Times the median claim that a claim of training examples counts at most. */
export const MOST_MEDIANS = 4

/** What an author says of its weight: its examples among everybody's. */
export interface ClaimedShare {
  readonly samples: number
  readonly totalSamples: number
}

/**
 * Our share of all training examples as everybody claims them. Nobody can check a claim, and one of a thousand million
 * would leave all others a share of nothing, so that nothing is learned any more: claims count up to MOST_MEDIANS times
 * the median one, our own too. As long as most tell the truth, honest shares are then at most so many times too small.
 */
export function claimedShare(own: number, others: readonly number[]): ClaimedShare {
  const most = MOST_MEDIANS * lowerMedian([own, ...others])
  const counted = (claim: number): number => Math.min(claim, most)
  return {
    samples: counted(own),
    totalSamples: others.reduce((sum, claim) => sum + counted(claim), counted(own))
  }
}
