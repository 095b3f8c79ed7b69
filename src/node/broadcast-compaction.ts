import type { Head } from '../codec/update.js'
import { stableHeads } from '../consensus/broadcast-sync.js'
import type { Broadcaster } from '../consensus/broadcaster.js'
import type { BroadcastRun } from './broadcast-run.js'

/** Bytes of updates kept one by one, 64 MiB; twice that where some peer has not said for long what it has. */
export const MAX_HELD_BYTES = 64 * 1024 * 1024

/** First what everybody has; where that is too little for too long, the older half of everything. */
export async function compact(run: BroadcastRun): Promise<void> {
  const { broadcaster, members, broadcastLog } = run.parts
  if (heldBytes(run) <= MAX_HELD_BYTES) return
  const said = members().map((peer) => run.heads.get(peer))
  const others = said.filter((heads) => heads !== undefined)
  if (others.length === said.length)
    for (const [author, upTo] of stableHeads(broadcaster.state(), others))
      broadcaster.dispatch({ type: 'fold', author, upTo })
  if (heldBytes(run) > 2 * MAX_HELD_BYTES)
    for (const [author, { base, held }] of broadcaster.state().authors)
      broadcaster.dispatch({ type: 'fold', author, upTo: base + Math.floor(held.length / 2) })
  await broadcastLog?.rebase(() => rebased(broadcaster))
}

const heldBytes = ({ parts }: BroadcastRun): number =>
  [...parts.broadcaster.state().authors.values()].reduce(
    (sum, { held }) => sum + held.reduce((bytes, { body }) => bytes + body.length, 0),
    0
  )

/** The log of what a broadcaster holds now. */
export function rebased(broadcaster: Broadcaster) {
  const { state } = broadcaster.saved()
  const heads = [...state.authors].flatMap(([author, { base, baseHash }]): Head[] =>
    base === 0 ? [] : [{ author, sequence: base, hash: baseHash, base: 0 }]
  )
  const units = broadcaster.unitsAt(heads)
  if (units === undefined) throw new Error('the sum at our own base cannot be told')
  const authors = heads.map(({ author, sequence, hash }) => {
    return [author, { base: sequence, baseHash: hash, held: [], waiting: new Map() }] as const
  })
  const entries = [...state.authors.values()].flatMap(({ held, waiting, stop }) => [
    ...held.map((update) => ({ kind: 'update', update }) as const),
    ...[...waiting.values()].map((update) => ({ kind: 'update', update }) as const),
    ...(stop === undefined ? [] : [{ kind: 'evidence', pair: stop } as const])
  ])
  return { base: { state: { authors: new Map(authors) }, units }, entries }
}
