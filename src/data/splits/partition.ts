import { PeertuneError } from '../../base/errors.js'
import { type Rng, seededRng } from '../../base/rng.js'

/** How examples are dealt to peers. */
export type PartitionScheme =
  /** A random equal share of everything. */
  | { readonly kind: 'iid' }
  /** Every peer holds `classesPerPeer` classes; the holders of a class share its examples equally. */
  | { readonly kind: 'by-class'; readonly classesPerPeer: number }
  /**
   * Each class is spread over the peers by proportions from a symmetric Dirichlet distribution: small `alpha` is
   * skewed, large is even (Hsu et al. 2019, https://arxiv.org/abs/1909.06335). Drawn again until every peer has
   * `minimum` examples (default 1).
   */
  | { readonly kind: 'dirichlet'; readonly alpha: number; readonly minimum?: number }
  /** Labels are natural groups (speakers, devices): group g goes whole to peer g mod peers. */
  | { readonly kind: 'by-group' }
  /**
   * Shares of unequal size, the examples in them drawn alike: sizes are the proportions of one draw from a symmetric
   * Dirichlet distribution (the quantity skew of Li et al. 2022, https://arxiv.org/abs/2102.02079). Drawn again until
   * every peer has `minimum` examples (default 1).
   */
  | { readonly kind: 'by-quantity'; readonly alpha: number; readonly minimum?: number }

/** Draws of Dirichlet proportions before giving up on `minimum`. */
const MAX_DRAWS = 1000
/** Peers of one split: the table of who holds what has a row for each. */
const MAX_PEERS = 100_000

/**
 * Deals example indices to `peers`; every index goes to exactly one peer (by-class: to one holder of its class, or to
 * nobody when no peer holds the class). A function of the arguments alone. Throws `data/bad-partition`.
 */
export function partition(
  labels: ArrayLike<number>,
  scheme: PartitionScheme,
  peers: number,
  seed: string
): readonly (readonly number[])[] {
  if (!Number.isInteger(peers) || peers < 1 || peers > MAX_PEERS)
    throw badPartition(`${peers} peers cannot share anything`, { peers, maxPeers: MAX_PEERS })
  const rng = seededRng('partition', scheme.kind, seed)
  switch (scheme.kind) {
    case 'iid':
      return deal(rng.shuffle(Array.from(labels, (_, i) => i)), peers)
    case 'by-class':
      return partitionByClass(labels, scheme.classesPerPeer, peers, seed, rng)
    case 'dirichlet':
      return partitionByDirichlet(labels, scheme.alpha, scheme.minimum ?? 1, peers, rng)
    case 'by-quantity':
      return partitionByDirichlet(new Uint8Array(labels.length), scheme.alpha, scheme.minimum ?? 1, peers, rng)
    case 'by-group':
      return partitionByGroup(labels, peers)
  }
}

/**
 * Which of `classes` classes each peer holds: the shuffled classes are dealt round and round, so with
 * peers * classesPerPeer >= classes every class is held, and no class by many more peers than another.
 * Throws `data/bad-partition`.
 */
export function dealClasses(classes: number, peers: number, classesPerPeer: number, seed: string): number[][] {
  if (!Number.isInteger(classesPerPeer) || classesPerPeer < 1 || classesPerPeer > classes)
    throw badPartition(`a peer cannot hold ${classesPerPeer} of ${classes} classes`, { classes, classesPerPeer })
  const order = seededRng('classes', seed).shuffle(Array.from({ length: classes }, (_, i) => i))
  return Array.from({ length: peers }, (_, peer) =>
    Array.from({ length: classesPerPeer }, (_, i) => order[(peer * classesPerPeer + i) % classes]!)
  )
}

function partitionByGroup(groups: ArrayLike<number>, peers: number): number[][] {
  const shares: number[][] = Array.from({ length: peers }, () => [])
  for (let i = 0; i < groups.length; i++) shares[groups[i]! % peers]!.push(i)
  return shares
}

function partitionByClass(
  labels: ArrayLike<number>,
  classesPerPeer: number,
  peers: number,
  seed: string,
  rng: Rng
): number[][] {
  const byClass = indicesByClass(labels)
  const classes = [...byClass.keys()].sort((a, b) => a - b)
  const held = dealClasses(classes.length, peers, classesPerPeer, seed)
  const shares: number[][] = Array.from({ length: peers }, () => [])
  classes.forEach((label, place) => {
    const holders = shares.filter((_, peer) => held[peer]!.includes(place))
    const parts = holders.length === 0 ? [] : deal(rng.shuffle(byClass.get(label)!), holders.length)
    for (const [i, part] of parts.entries()) for (const index of part) holders[i]!.push(index)
  })
  return shares
}

function partitionByDirichlet(
  labels: ArrayLike<number>,
  alpha: number,
  minimum: number,
  peers: number,
  rng: Rng
): number[][] {
  if (!(alpha > 0)) throw badPartition(`alpha ${alpha} is not positive`, { alpha })
  const groups = [...indicesByClass(labels)].sort(([a], [b]) => a - b).map(([, indices]) => indices)
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const shares: number[][] = Array.from({ length: peers }, () => [])
    for (const indices of groups) spread(rng.shuffle(indices), dirichlet(alpha, peers, rng), shares)
    if (shares.every((share) => share.length >= minimum)) return shares
  }
  throw badPartition(`no draw gives each of ${peers} peers ${minimum} of ${labels.length} examples`, {
    peers,
    minimum,
    examples: labels.length,
    alpha
  })
}

/** Cuts `indices` at the rounded cumulated proportions. */
function spread(indices: readonly number[], proportions: readonly number[], shares: number[][]): void {
  let cumulated = 0
  let from = 0
  proportions.forEach((proportion, peer) => {
    cumulated += proportion
    const to = peer === proportions.length - 1 ? indices.length : Math.round(cumulated * indices.length)
    for (const index of indices.slice(from, to)) shares[peer]!.push(index)
    from = to
  })
}

/** One draw from the symmetric Dirichlet distribution: normalised gamma variates. */
export function dirichlet(alpha: number, size: number, rng: Rng): number[] {
  const draws = Array.from({ length: size }, () => gamma(alpha, rng))
  const sum = draws.reduce((total, draw) => total + draw, 0)
  // A tiny alpha can underflow every draw; the limit of the distribution is a single winner.
  if (sum === 0) {
    const winner = rng.integer(size)
    return draws.map((_, i) => (i === winner ? 1 : 0))
  }
  return draws.map((draw) => draw / sum)
}

/**
 * A gamma variate of shape `alpha`, scale 1: Marsaglia & Tsang 2000, "A Simple Method for Generating Gamma Variables"
 * (doi:10.1145/358407.358414), with its boost for alpha < 1.
 */
export function gamma(alpha: number, rng: Rng): number {
  if (alpha < 1) return gamma(alpha + 1, rng) * (1 - rng.uniform()) ** (1 / alpha)
  const d = alpha - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  for (;;) {
    const x = normal(rng)
    const v = (1 + c * x) ** 3
    if (v > 0 && Math.log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v
  }
}

/** A standard normal variate: Marsaglia's polar method. */
function normal(rng: Rng): number {
  for (;;) {
    const [x, y] = [2 * rng.uniform() - 1, 2 * rng.uniform() - 1]
    const s = x * x + y * y
    if (s > 0 && s < 1) return x * Math.sqrt((-2 * Math.log(s)) / s)
  }
}

function deal(indices: readonly number[], peers: number): number[][] {
  const shares: number[][] = Array.from({ length: peers }, () => [])
  for (const [i, index] of indices.entries()) shares[i % peers]!.push(index)
  return shares
}

function indicesByClass(labels: ArrayLike<number>): Map<number, number[]> {
  const byClass = new Map<number, number[]>()
  for (let i = 0; i < labels.length; i++) {
    const indices = byClass.get(labels[i]!)
    if (indices === undefined) byClass.set(labels[i]!, [i])
    else indices.push(i)
  }
  return byClass
}

const badPartition = (message: string, facts: Readonly<Record<string, number>>): PeertuneError =>
  new PeertuneError('data/bad-partition', message, { facts })
