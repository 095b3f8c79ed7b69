import { GENESIS, type Update, type UpdateHash, type Want } from '../../codec/wire/update.js'
import { type AuthorState, type Evidence, MAX_WAITING } from './types.js'

/**
 * One author's updates: a chain in which each names the one before it by its hash, as in Secure Scuttlebutt's feeds
 * (Tarr et al. 2019, https://doi.org/10.1145/3357150.3357396). What counts is a function of the set of updates known,
 * never of the order in which they came:
 *
 *   from 1 on, the only known update with that number, as long as it names the one before it;
 *   at the first number with two known updates, the one with the smaller hash, and nothing behind it.
 *
 * Sets only grow, and two peers that have told each other everything know the same set, so they count the same.
 */
export const emptyAuthor: AuthorState = { base: 0, baseHash: GENESIS, held: [], waiting: new Map() }

/** Number of the last update counted. */
export const headOf = ({ base, held }: AuthorState): number => base + held.length

export const headHashOf = ({ baseHash, held }: AuthorState): UpdateHash => held.at(-1)?.hash ?? baseHash

/** The number of the author's equivocation. */
export const stopOf = ({ stop }: AuthorState): number | undefined => stop?.[0].sequence

/** The counted update with this number, where its body is still kept. */
export const heldAt = ({ base, held }: AuthorState, sequence: number): Update | undefined => held[sequence - base - 1]

const ordered = (a: Update, b: Update): Evidence => (a.hash < b.hash ? [a, b] : [b, a])

/** What happened to the replica. */
export interface Counted {
  readonly update: Update
  readonly sign: 1 | -1
}

/** What taking something in has led to. */
export type Outcome =
  | {
      readonly kind: 'counted' | 'kept' | 'equivocation'
      readonly author: AuthorState
      readonly counts: readonly Counted[]
    }
  | { readonly kind: 'duplicate' | 'too-far-ahead' | 'compacted' | 'stopped' }

const NOTHING: readonly Counted[] = []

/** Takes in one more update of this author. */
export function takeUpdate(author: AuthorState, update: Update): Outcome {
  const { sequence, hash } = update
  const stop = stopOf(author)
  if (stop !== undefined && sequence >= stop) {
    if (sequence > stop) return { kind: 'stopped' }
    const best = author.stop![0]
    return hash < best.hash ? stopAt(author, [update, best]) : { kind: 'duplicate' }
  }
  if (sequence <= author.base) return { kind: 'compacted' }
  const known = heldAt(author, sequence) ?? author.waiting.get(sequence)
  if (known?.hash === hash) return { kind: 'duplicate' }
  if (known !== undefined) return stopAt(author, ordered(known, update))
  if (sequence > headOf(author) + MAX_WAITING) return { kind: 'too-far-ahead' }
  return drain({ ...author, waiting: new Map(author.waiting).set(sequence, update) }, NOTHING)
}

/** Takes in the proof of an equivocation: two updates with one number. */
export function takeEvidence(author: AuthorState, pair: readonly [Update, Update]): Outcome {
  const evidence = ordered(...pair)
  const { sequence } = evidence[0]
  const stop = stopOf(author)
  if (stop !== undefined && sequence > stop) return { kind: 'stopped' }
  if (stop === sequence) {
    const best = ordered(author.stop![0], evidence[0])
    return best[0].hash === author.stop![0].hash ? { kind: 'duplicate' } : stopAt(author, best)
  }
  if (sequence <= author.base) return { kind: 'compacted' }
  const known = heldAt(author, sequence) ?? author.waiting.get(sequence)
  // Ours may be a third one.
  if (known !== undefined && known.hash < evidence[0].hash) return stopAt(author, [known, evidence[0]])
  return stopAt(author, evidence)
}

/** Takes back what counts from that number on, and counts the smaller of the two, once it is its turn. */
function stopAt(author: AuthorState, stop: Evidence): Outcome {
  const { sequence } = stop[0]
  const kept = author.held.slice(0, Math.max(0, sequence - 1 - author.base))
  const counts = author.held.slice(kept.length).map((update): Counted => ({ update, sign: -1 }))
  const waiting = new Map([...author.waiting].filter(([number]) => number < sequence))
  const drained = drain({ ...author, held: kept, waiting, stop }, counts.toReversed())
  return { ...drained, kind: 'equivocation' }
}

/** Counts what was waiting and waits for nothing any more, since the chain now goes on at another base. */
export const countWaiting = (author: AuthorState): AuthorState => drain(author, NOTHING).author

function drain(
  start: AuthorState,
  before: readonly Counted[]
): Extract<Outcome, { kind: 'counted' | 'kept' | 'equivocation' }> {
  const held = [...start.held]
  const waiting = new Map(start.waiting)
  const counts: Counted[] = [...before]
  let hash = headHashOf(start)
  const count = (update: Update): void => {
    held.push(update)
    counts.push({ update, sign: 1 })
    hash = update.hash
  }
  for (;;) {
    const next = start.base + held.length + 1
    const stop = stopOf(start)
    if (stop !== undefined && next >= stop) {
      // Whatever it names as the one before: both cannot be followed, and all must choose alike.
      if (next === stop) count(start.stop![0])
      break
    }
    const update = waiting.get(next)
    if (update === undefined || update.previous !== hash) break
    waiting.delete(next)
    count(update)
  }
  const kind = counts.length > before.length ? 'counted' : 'kept'
  return { kind, author: { ...start, held, waiting }, counts }
}

/**
 * Updates that somebody must have, because one that was signed names them as its predecessor: where an author's
 * chain forks, these lead down to the number at which it does.
 */
export function wantsOf(id: string, author: AuthorState): readonly Want[] {
  const named = [...(author.stop ?? []), ...author.waiting.values()]
  const wants = named.flatMap(({ sequence, previous }): Want[] => {
    const before = sequence - 1
    if (before <= author.base) return []
    const known = heldAt(author, before) ?? author.waiting.get(before)
    return known === undefined || known.hash === previous ? [] : [{ author: id, sequence: before, hash: previous }]
  })
  return [...new Map(wants.map((want) => [want.hash, want])).values()]
}

/** Forgets the bodies up to a number; never that of the stop, whose place a smaller one may still take. */
export function compactAuthor(author: AuthorState, upTo: number): AuthorState {
  const last = Math.min(upTo, headOf(author), (stopOf(author) ?? Infinity) - 1)
  if (last <= author.base) return author
  const baseHash = heldAt(author, last)!.hash
  return { ...author, base: last, baseHash, held: author.held.slice(last - author.base) }
}
