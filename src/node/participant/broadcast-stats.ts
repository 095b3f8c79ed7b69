import type { Head } from '../../codec/wire/update.js'

/** What a broadcasting node says of itself; counters since the start. */
export interface BroadcastStats {
  /** Updates of ours that we have told. */
  readonly published: number
  /** Updates taken in, ours included. */
  readonly counted: number
  /** Times an author was caught with two rows. */
  readonly caught: number
  /** Sums of old updates taken over from others. */
  readonly snapshots: number
  /** Bytes of updates published and of conversations. */
  readonly sent: number
  readonly received: number
  /** The version vector. */
  readonly heads: readonly Head[]
  /** Bodies kept. */
  readonly held: number
  /** Updates that wait for one before them. */
  readonly waiting: number
  /** Peers that have said that they have something we lack. */
  readonly peersAhead: number
  /** SHA-256 of the sum: equal at peers that have counted the same. */
  readonly replicaHash: string
  /** Judgements on what peers sent, by code. */
  readonly verdicts: Readonly<Record<string, number>>
}
