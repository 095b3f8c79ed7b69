import type { Head, Update } from '../../codec/wire/update.js'
import type { AuthorState, BroadcastConfig, BroadcastState } from './types.js'
import { type Contribution, contributionOf } from './fixed-point.js'
import { countWaiting, emptyAuthor, headOf, heldAt, stopOf } from './update-chain.js'

/** The sum of all updates up to some heads: what a newcomer needs of those whose bodies nobody keeps any more. */
export interface BroadcastSnapshot {
  /** Never the update of an equivocation: that one comes with its evidence. */
  readonly heads: readonly Head[]
  /** float64[size], integers. */
  readonly units: Float64Array
}

/** The heads of a snapshot taken now. */
export const snapshotHeads = ({ authors }: BroadcastState): readonly Head[] =>
  [...authors].flatMap(([author, state]): Head[] => {
    const sequence = Math.min(headOf(state), (stopOf(state) ?? Infinity) - 1)
    return sequence === 0 ? [] : [{ author, sequence, hash: hashAt(state, sequence), base: 0 }]
  })

const hashAt = (author: AuthorState, sequence: number): string =>
  sequence === author.base ? author.baseHash : heldAt(author, sequence)!.hash

/**
 * The sum as it was, or would have been, with exactly these updates: today's without the bodies behind them. Absent where
 * we have other updates, fewer, or no bodies of those to take away.
 */
export function unitsAt(
  { rule }: Pick<BroadcastConfig, 'rule'>,
  state: BroadcastState,
  units: Float64Array,
  heads: readonly Head[]
): Float64Array | undefined {
  const wanted = new Map(heads.map((head) => [head.author, head]))
  if (heads.some(({ author }) => !state.authors.has(author))) return undefined
  const surplus: Update[] = []
  for (const [id, author] of state.authors) {
    const { sequence, hash } = wanted.get(id) ?? { sequence: 0, hash: emptyAuthor.baseHash }
    if (sequence < author.base || sequence > headOf(author) || hashAt(author, sequence) !== hash) return undefined
    surplus.push(...author.held.slice(sequence - author.base))
  }
  const then = units.slice()
  for (const update of surplus) subtract(then, contributionOf(rule, update))
  return then
}

function subtract(units: Float64Array, contribution: ReturnType<typeof contributionOf>): void {
  if (!contribution.ok) return
  const { indices, units: step }: Contribution = contribution.value
  for (let k = 0; k < indices.length; k++) units[indices[k]!] = units[indices[k]!]! - step[k]!
}

export interface Adopted {
  readonly state: BroadcastState
  /** Ours that the snapshot does not contain: to be counted on top of it. */
  readonly recount: readonly Update[]
}

/**
 * Our state on the ground of a snapshot. Absent where something of ours would be lost: compacted updates
 * that the snapshot does not contain, or the stop of an author. Where a chain forks without our knowing it, the
 * snapshot's branch counts: it was confirmed by several.
 */
export function adoptHeads(state: BroadcastState, heads: readonly Head[]): Adopted | undefined {
  const theirs = new Map(heads.map((head) => [head.author, head]))
  const authors = new Map<string, AuthorState>()
  const recount: Update[] = []
  for (const [id, author] of state.authors) {
    const sequence = theirs.get(id)?.sequence ?? 0
    if (sequence < author.base || sequence >= (stopOf(author) ?? Infinity)) return undefined
  }
  for (const { author: id, sequence, hash } of heads) {
    const own = state.authors.get(id) ?? emptyAuthor
    const continues = sequence <= headOf(own) && hashAt(own, sequence) === hash
    const held = continues ? own.held.slice(sequence - own.base) : []
    const waiting = new Map([...own.waiting].filter(([number]) => number > sequence + held.length))
    const stop = own.stop === undefined ? {} : { stop: own.stop }
    const author = countWaiting({ base: sequence, baseHash: hash, held, waiting, ...stop })
    authors.set(id, author)
    recount.push(...author.held)
  }
  for (const [id, author] of state.authors)
    if (!authors.has(id)) {
      authors.set(id, author)
      recount.push(...author.held)
    }
  return { state: { authors }, recount }
}
