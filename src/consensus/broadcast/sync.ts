import { type Digest, GENESIS, type Head, type Update, type Want } from '../../codec/wire/update.js'
import { authorOf } from './broadcast.js'
import type { AuthorState, BroadcastConfig, BroadcastState, Evidence } from './types.js'
import type { PeerId } from '../peer-id.js'
import { headHashOf, headOf, heldAt, wantsOf } from './update-chain.js'

/** Updates looked for by content in one digest: every author whose chain forks leads to one or two. */
const MAX_WANTS = 256

/** The version vector: by author, how far we have counted and where an author equivocated. */
export const headsOf = ({ authors }: BroadcastState): readonly Head[] =>
  [...authors].map(([author, state]): Head => {
    const { base, stop } = state
    const head = { author, sequence: headOf(state), hash: headHashOf(state), base }
    return stop === undefined ? head : { ...head, stop: { sequence: stop[0].sequence, hash: stop[0].hash } }
  })

export const digestOf = ({ federation, schemaHash }: BroadcastConfig, state: BroadcastState): Digest => ({
  federation,
  schema: schemaHash,
  heads: headsOf(state),
  wants: [...state.authors].flatMap(([id, author]) => wantsOf(id, author)).slice(0, MAX_WANTS)
})

/** What we can give somebody who has said what it has. */
export interface Answer {
  readonly evidence: readonly Evidence[]
  /** In the order of their numbers, by author. */
  readonly updates: readonly Update[]
  /** It lacks updates that we have compacted: only a snapshot has them. */
  readonly needsSnapshot: boolean
}

/** `maxBytes`: of updates in one answer; the rest is for the next. At least one update is given. */
export function answerTo(state: BroadcastState, digest: Pick<Digest, 'heads' | 'wants'>, maxBytes: number): Answer {
  const theirs = new Map(digest.heads.map((head) => [head.author, head]))
  const evidence: Evidence[] = []
  const offered: Update[] = []
  let needsSnapshot = false
  for (const [id, author] of state.authors) {
    const head = theirs.get(id) ?? { author: id, sequence: 0, hash: GENESIS, base: 0 }
    if (author.stop !== undefined && isBetterStop(author.stop, head)) evidence.push(author.stop)
    const last = Math.min(headOf(author), (head.stop?.sequence ?? Infinity) - 1)
    // Where a chain forks, or may: our own at their head shows it, if it is not theirs.
    const from = isOurs(state, head) ? head.sequence + 1 : Math.min(head.sequence, last)
    if (from <= author.base && head.sequence < author.base) needsSnapshot = true
    else for (let n = Math.max(from, author.base + 1); n <= last; n++) offered.push(heldAt(author, n)!)
  }
  const wanted = digest.wants.flatMap((want) => findWanted(state, want) ?? [])
  return { evidence, updates: within([...wanted, ...offered], maxBytes), needsSnapshot }
}

/** Of two equivocations of an author the earlier counts, at one place the smaller hash. */
const isBetterStop = ([{ sequence, hash }]: Evidence, { stop }: Head): boolean =>
  stop === undefined || sequence < stop.sequence || (sequence === stop.sequence && hash < stop.hash)

/** Is their last counted update the one that we have counted, as far as we can see? */
function isOurs(state: BroadcastState, { author: id, sequence, hash }: Head): boolean {
  const author = authorOf(state, id)
  if (sequence <= author.base || sequence > headOf(author)) return true
  return heldAt(author, sequence)?.hash === hash
}

function findWanted(state: BroadcastState, { author: id, sequence, hash }: Want): Update | undefined {
  const author = authorOf(state, id)
  const known = [heldAt(author, sequence), author.waiting.get(sequence), ...(author.stop ?? [])]
  return known.find((update) => update?.hash === hash)
}

function within(updates: readonly Update[], maxBytes: number): readonly Update[] {
  let left = maxBytes
  return updates.filter(({ body }, i) => {
    left -= body.length
    return i === 0 || left >= 0
  })
}

/** Does somebody with these heads have anything that we lack? */
export const lacks = (state: BroadcastState, heads: readonly Head[]): boolean =>
  heads.some((head) => {
    const author = authorOf(state, head.author)
    const stop = author.stop?.[0]
    const betterStop =
      head.stop !== undefined &&
      (stop === undefined ||
        head.stop.sequence < stop.sequence ||
        (head.stop.sequence === stop.sequence && head.stop.hash < stop.hash))
    const most = Math.min(head.sequence, stop?.sequence ?? Infinity)
    return betterStop || most > headOf(author)
  })

/** Do two peers hold the same, as far as heads can say? Then their replicas are equal to the last bit. */
export function sameHeads(a: readonly Head[], b: readonly Head[]): boolean {
  const key = (heads: readonly Head[]): string =>
    heads
      .filter(({ sequence, stop }) => sequence > 0 || stop !== undefined)
      .map(
        ({ author, sequence, hash, stop }) =>
          `${author} ${sequence} ${hash} ${stop?.sequence ?? ''} ${stop?.hash ?? ''}`
      )
      .toSorted()
      .join('\n')
  return key(a) === key(b)
}

/**
 * By author, the number up to which `enough` peers have counted our branch, we among them, by what `said` says of the others.
 * Whoever is ahead of us, or on another branch, agrees to nothing: that is seen once we have what it has.
 */
export function heldBy(
  state: BroadcastState,
  said: readonly (readonly Head[])[],
  enough: number
): ReadonlyMap<PeerId, number> {
  const held = new Map<PeerId, number>()
  for (const [id, author] of state.authors) {
    const agreed = said.map((heads) =>
      agreedUpTo(
        author,
        heads.find((one) => one.author === id)
      )
    )
    const counts = [headOf(author), ...agreed].sort((a, b) => b - a)
    held.set(id, counts[Math.max(1, enough) - 1] ?? 0)
  }
  return held
}

function agreedUpTo(author: AuthorState, head: Head | undefined): number {
  if (head === undefined) return 0
  const { sequence, hash, stop } = head
  if (sequence > author.base && heldAt(author, sequence)?.hash !== hash) return 0
  return Math.min(sequence, (stop?.sequence ?? Infinity) - 1)
}
