import { PeertuneError } from '../../base/errors.js'
import type { DataSummary, SplitSummary } from '../batches/batch.js'
import { KEY_RANGE } from './content-key.js'
import { type PartitionScheme, partition } from './partition.js'
import type { PeerSplit } from '../spec.js'

/** Columns of the table of who holds what; with more of them, it has the sums alone. */
const MAX_TABLE_COLUMNS = 26

/** All examples of a source by place, before any is held out or dealt. */
export interface Collection {
  readonly size: number
  /** The content of each in 32 bits, see content-key.ts. */
  key(index: number): number
  /** Class of each; absent where examples have none. */
  readonly labels?: (index: number) => number
  /** Names of the classes. */
  readonly labelNames?: readonly string[]
  /** The column a split goes by, where that is not the label. */
  readonly groups?: { readonly of: (index: number) => number; readonly names: readonly string[] }
}

export interface ChooseOptions {
  readonly kind: string
  /** Share of the examples that is held out, from 0 to 0.9. */
  readonly heldOut: number
  readonly split?: PeerSplit
  readonly skipped?: Pick<DataSummary, 'skipped' | 'firstSkipped'>
}

export interface Chosen {
  readonly training: Uint32Array
  readonly heldOut: Uint32Array
  readonly summary: DataSummary
}

/**
 * What is held out (the same on every peer, over all labels), and which of the rest this peer trains on. Both hang on the
 * content of an example and the seeds alone: equal examples are on the same side, and an example that is added moves no
 * other across the border between training and held-out. Throws `data/bad-split`, `data/bad-partition`.
 */
export function choose(collection: Collection, { kind, heldOut: share, split, skipped }: ChooseOptions): Chosen {
  const { training: all, heldOut } = holdOut(collection, share)
  const dealt = split === undefined ? undefined : deal(all, collection, split)
  const training = dealt?.training ?? all
  return {
    training,
    heldOut,
    summary: {
      kind,
      training: training.length,
      heldOut: heldOut.length,
      skipped: 0,
      ...skipped,
      ...labelCounts(collection, training, heldOut),
      ...(dealt && { split: dealt.summary })
    }
  }
}

/** As `choose` with what a source's configuration says: where it has a `test` collection, all of that is held out. */
export function chooseHeldOut(
  main: Collection,
  test: Collection,
  { kind, heldOut = 0.1, split, skipped }: Partial<ChooseOptions> & Pick<ChooseOptions, 'kind'>
): Chosen {
  const options = { kind, ...(split && { split }), ...(skipped && { skipped }) }
  if (test === main) return choose(main, { ...options, heldOut })
  const { training, summary } = choose(main, { ...options, heldOut: 0 })
  const all = choose(test, { kind, heldOut: 0 })
  const labels = summary.labels?.map((one, i) => ({ ...one, heldOut: all.summary.labels?.[i]?.training ?? 0 }))
  return {
    training,
    heldOut: all.training,
    summary: { ...summary, heldOut: all.training.length, ...(labels && { labels }) }
  }
}

/** Held out is what has a small key; of a source too small for that, what has the smallest. */
export function holdOut({ size, key }: Pick<Collection, 'size' | 'key'>, share: number) {
  let smallest = KEY_RANGE
  let largest = -1
  for (let i = 0; i < size; i++) {
    const found = key(i)
    if (found < smallest) smallest = found
    if (found > largest) largest = found
  }
  // Examples that are all alike cannot be on both sides.
  const border = share === 0 || smallest === largest ? 0 : Math.max(share * KEY_RANGE, smallest + 1)
  let held = 0
  for (let i = 0; i < size; i++) if (key(i) < border) held += 1
  const training = new Uint32Array(size - held)
  const heldOut = new Uint32Array(held)
  let [t, h] = [0, 0]
  for (let i = 0; i < size; i++)
    if (key(i) < border) heldOut[h++] = i
    else training[t++] = i
  return { training, heldOut }
}

function deal(all: Uint32Array, collection: Collection, split: PeerSplit) {
  const { peers, peer, seed = 'split' } = split
  if (peer !== undefined && peer >= peers)
    throw new PeertuneError('data/bad-split', `there is no peer ${peer} among ${peers}: they count from 0`, {
      facts: { peer, peers },
      hint: 'lower split.peer, or raise split.peers'
    })
  const order = byKey(all, collection.key)
  const { of, names } = groupsOf(collection, split)
  const groups = Uint32Array.from(order, of)
  const sized = split.by === 'column' ? bySize(groups, names) : { groups, names }
  const shares = partition(sized.groups, schemeOf(split), peers, seed)
  return {
    training: peer === undefined ? all : Uint32Array.from(shares[peer]!, (place) => order[place]!).sort(),
    summary: summaryOf(split, shares, sized)
  }
}

/** The order of the examples' keys: what is dealt does not hang on where in the file an example stands. */
function byKey(places: Uint32Array, key: Collection['key']): Uint32Array {
  const pairs = BigUint64Array.from(places, (place) => (BigInt(key(place)) << 32n) | BigInt(place)).sort()
  return Uint32Array.from(pairs, (pair) => Number(pair & 0xffff_ffffn))
}

function schemeOf(split: PeerSplit): PartitionScheme {
  switch (split.by) {
    case 'iid':
      return { kind: 'iid' }
    case 'column':
      return { kind: 'by-group' }
    case 'class':
      return { kind: 'by-class', classesPerPeer: split.classesPerPeer }
    case 'dirichlet':
    case 'quantity': {
      const { alpha, minimum } = split
      return { kind: split.by === 'quantity' ? 'by-quantity' : 'dirichlet', alpha, ...(minimum && { minimum }) }
    }
  }
}

/** What examples are told apart by: a column where the split names one, else their label. */
function groupsOf({ groups, labels, labelNames }: Collection, split: PeerSplit) {
  const { by } = split
  if (groups !== undefined) return groups
  if ('column' in split)
    throw new PeertuneError('data/bad-split', `these examples have no column ${split.column} to be split by`, {
      facts: { by, column: split.column },
      hint: 'only tables (jsonl, csv, parquet) have columns; split by class, dirichlet, quantity or iid'
    })
  if (labels !== undefined) return { of: labels, names: labelNames ?? [] }
  if (by === 'iid' || by === 'quantity') return { of: () => 0, names: [] }
  throw new PeertuneError('data/bad-split', `a split by ${by} needs classes, and these examples have no label`, {
    facts: { by },
    hint: 'name a column to go by, or split by iid or quantity'
  })
}

/** Groups numbered anew, the largest first (ties by name), so that dealing them in turn gives shares of like size. */
function bySize(groups: Uint32Array, names: readonly string[]) {
  const counts = names.map(() => 0)
  for (const group of groups) counts[group]! += 1
  const order = names
    .map((_, group) => group)
    .sort((a, b) => counts[b]! - counts[a]! || (names[a]! < names[b]! ? -1 : 1))
  const rank = new Uint32Array(names.length)
  for (const [place, group] of order.entries()) rank[group] = place
  return { groups: groups.map((group) => rank[group]!), names: order.map((group) => names[group]!) }
}

function summaryOf(
  split: PeerSplit,
  shares: readonly (readonly number[])[],
  { groups, names }: { readonly groups: Uint32Array; readonly names: readonly string[] }
): SplitSummary {
  const columns = names.length > MAX_TABLE_COLUMNS ? [] : names
  const peers = shares.map((share) => {
    const counts = columns.map(() => 0)
    if (columns.length > 0) for (const place of share) counts[groups[place]!]! += 1
    return [...counts, share.length]
  })
  return { by: titleOf(split), ...(split.peer === undefined ? {} : { peer: split.peer }), columns, peers }
}

function titleOf(split: PeerSplit): string {
  switch (split.by) {
    case 'iid':
      return 'iid'
    case 'column':
      return `column ${split.column}`
    case 'class':
      return `class (${split.classesPerPeer} a peer)`
    case 'dirichlet':
    case 'quantity':
      return `${split.by} (alpha ${split.alpha})`
  }
}

function labelCounts(
  { labels, labelNames = [] }: Collection,
  training: Uint32Array,
  heldOut: Uint32Array
): Pick<DataSummary, 'labels'> {
  if (labels === undefined) return {}
  const count = (places: Uint32Array) => {
    const counts = labelNames.map(() => 0)
    for (const place of places) counts[labels(place)]! += 1
    return counts
  }
  const [trained, held] = [count(training), count(heldOut)]
  return { labels: labelNames.map((name, i) => ({ name, training: trained[i]!, heldOut: held[i]! })) }
}
