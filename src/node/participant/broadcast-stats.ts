import type { Head } from '../../codec/wire/update.js'

/** What a broadcasting node says of itself; counters since the start. */
export interface BroadcastStats {
  /** Updates of ours that we have told. */
  readonly published: number
  /** Updates taken in, ours included. */
  readonly counted: number
  /** Times an author equivocated: wrote two updates with one number. */
  readonly equivocations: number
  /** Snapshots of old updates adopted from others. */
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
  /** SHA-256 of the replica: equal at peers that have counted the same. */
  readonly replicaHash: string
  /** Judgements on what peers sent, by code. */
  readonly verdicts: Readonly<Record<string, number>>
}
