import type { Head } from '../../codec/wire/update.js'
import { authorOf } from './broadcast.js'
import type { BroadcastBase, BroadcastEntry } from './types.js'
import { type Broadcaster, type BroadcasterParts, createBroadcaster } from './broadcaster.js'
import { headOf } from './update-chain.js'

/** Everything a log has to hold of what was counted: a snapshot, and the updates behind it. */
export interface BroadcastRecord {
  /** Absent before the first compaction. */
  readonly base: BroadcastBase | undefined
  readonly entries: readonly BroadcastEntry[]
}

/** What was learned and not told when a checkpoint was made, float32[size] each, and the number of our last update then. */
export interface Untold {
  readonly progress: Float32Array
  readonly residual: Float32Array
  readonly ownUpdates: number
}

/** The log of what a broadcaster holds now. */
export function rebased(broadcaster: Broadcaster): BroadcastRecord & { readonly base: BroadcastBase } {
  const { state } = broadcaster.saved()
  const heads = [...state.authors].flatMap(([author, { base, baseHash }]): Head[] =>
    base === 0 ? [] : [{ author, sequence: base, hash: baseHash, base: 0 }]
  )
  const units = broadcaster.unitsAt(heads)
  if (units === undefined) throw new Error('there is no snapshot at our own base')
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

/**
 * A broadcaster as its log has it, whatever a checkpoint knows; of what was learned and not told, what the checkpoint has,
 * if nothing has been told since.
 */
export function restarted(
  parts: Omit<BroadcasterParts, 'saved'>,
  { base, entries }: BroadcastRecord,
  untold: Untold | undefined
): Broadcaster {
  const residual = new Float32Array(parts.live.length)
  const broadcaster = createBroadcaster({ ...parts, ...(base && { saved: { ...base, residual } }) })
  broadcaster.onReplica()
  broadcaster.replay(entries)
  if (untold !== undefined && ownUpdates(broadcaster, parts.config.self) === untold.ownUpdates)
    broadcaster.restore(untold)
  return broadcaster
}

/** Number of our last update. */
export const ownUpdates = (broadcaster: Broadcaster, self: string): number =>
  headOf(authorOf(broadcaster.state(), self))
