/** What the correlation of predictions and labels is made of: their means, and sums of products about the means. */
export interface Moments {
  readonly count: number
  readonly predicted: number
  readonly label: number
  readonly predictedSquares: number
  readonly labelSquares: number
  readonly products: number
}

export const NO_MOMENTS: Moments = {
  count: 0,
  predicted: 0,
  label: 0,
  predictedSquares: 0,
  labelSquares: 0,
  products: 0
}

/**
 * The moments of two sets together: Chan, Golub & LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing
 * Sample Variances". Sums of squares themselves would lose every digit to a mean far from 0.
 */
export function joinMoments(a: Moments, b: Moments): Moments {
  const count = a.count + b.count
  if (count === 0) return NO_MOMENTS
  const share = b.count / count
  const [predicted, label] = [b.predicted - a.predicted, b.label - a.label]
  const between = a.count * share
  return {
    count,
    predicted: a.predicted + predicted * share,
    label: a.label + label * share,
    predictedSquares: a.predictedSquares + b.predictedSquares + predicted * predicted * between,
    labelSquares: a.labelSquares + b.labelSquares + label * label * between,
    products: a.products + b.products + predicted * label * between
  }
}

/** Pearson's correlation, from -1 to 1; NaN where predictions or labels do not vary. */
export const correlation = ({ predictedSquares, labelSquares, products }: Moments): number =>
  products / Math.sqrt(predictedSquares * labelSquares)
