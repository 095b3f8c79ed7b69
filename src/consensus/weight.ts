/** Training examples a peer may claim. What a claim is worth is bounded by `maxPull`; this is what no data set has. */
export const MAX_WEIGHT = 1_000_000_000

export const isSaneWeight = (weight: number): boolean => Number.isInteger(weight) && weight >= 1 && weight <= MAX_WEIGHT
