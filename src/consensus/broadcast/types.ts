import type { Verdict } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../../codec/codec.js'
import type { Update, UpdateHash } from '../../codec/wire/update.js'
import type { StepRule } from './fixed-point.js'
import type { PeerId } from '../peer-id.js'

export type BroadcastVerdictCode =
  | CodecVerdictCode
  | 'broadcast/other-federation'
  | 'broadcast/other-schema'
  | 'broadcast/bad-signature'
  /** Published by somebody who did not write it. */
  | 'broadcast/not-the-author'
  /** A number, weight or predecessor that no update can have. */
  | 'broadcast/absurd-update'
  | 'broadcast/not-an-author'
  | 'broadcast/too-many-authors'
  | 'broadcast/too-far-ahead'
  | 'broadcast/duplicate'
  /** One author, one number, two updates. */
  | 'broadcast/equivocation'
  /** Behind an equivocation: does not count. */
  | 'broadcast/author-stopped'
  /** The update was compacted: its number counts already and its body is no longer kept. */
  | 'broadcast/compacted'
  | 'broadcast/too-many-messages'
  | 'broadcast/over-byte-budget'
  | 'broadcast/timeout'

export interface BroadcastConfig {
  readonly self: PeerId
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  readonly schemaHash: string
  readonly rule: StepRule
  /** Authors that count; at most MAX_AUTHORS. Beyond it newcomers are refused. */
  readonly maxAuthors: number
  /** Only these may write, where the federation names them. */
  readonly authors?: readonly PeerId[]
}

/**
 * The proof of an equivocation: two updates of one author with one number, the one with the smaller hash first. Shown to anybody it proves what the
 * author did, since nobody else could have signed them.
 */
export type Evidence = readonly [Update, Update]

/** What is known of one author. Its updates form a hash chain; the counted ones are a prefix of it. */
export interface AuthorState {
  /** Updates 1..base are compacted: they count, and their bodies are gone. */
  readonly base: number
  /** Hash of update `base`; GENESIS for 0. */
  readonly baseHash: UpdateHash
  /** Counted, in order: numbers base + 1, base + 2, ... */
  readonly held: readonly Update[]
  /** Verified, not yet counted: something before them is missing. At most MAX_WAITING. */
  readonly waiting: ReadonlyMap<number, Update>
  /** The author has signed two updates with one number. The last one counted is then at most evidence[0]. */
  readonly stop?: Evidence
}

export interface BroadcastState {
  /** In the order they were first heard of. */
  readonly authors: ReadonlyMap<PeerId, AuthorState>
}

/** Updates waiting for one before them, of one author: what overtakes in a mesh and in a round of pulls. */
export const MAX_WAITING = 64

export type BroadcastEvent =
  /** We have made and signed an update; the next of our own chain. */
  | { readonly type: 'own'; readonly update: Update }
  /** Somebody gave us an update with a good signature. */
  | { readonly type: 'update'; readonly update: Update; readonly from: PeerId }
  /** Somebody gave us two with good signatures: an author and a number, two bodies. */
  | { readonly type: 'evidence'; readonly pair: readonly [Update, Update]; readonly from: PeerId }
  /** Bodies up to here need not be kept any more. */
  | { readonly type: 'compact'; readonly author: PeerId; readonly upTo: number }

/** What must be on disk: the state is what the entries since the last checkpoint make of it. */
export type BroadcastEntry =
  | { readonly kind: 'update'; readonly update: Update }
  | { readonly kind: 'evidence'; readonly pair: Evidence }

/** What a log begins with: the snapshot of everything that was compacted. */
export interface BroadcastBase {
  /** Nothing held or waiting: `base` and `baseHash` of every author. */
  readonly state: BroadcastState
  /** float64[size], integers. */
  readonly units: Float64Array
}

/** What the driver must do, in this order. `count` must not be separated from the state it came with. */
export type BroadcastEffect =
  /** Must be safe from a crash before anything that tells of it leaves. */
  | { readonly type: 'record'; readonly entry: BroadcastEntry }
  /** Add the update's contribution to the replica, or take it back. */
  | { readonly type: 'count'; readonly update: Update; readonly sign: 1 | -1 }
  /** Ours, and new: tell everybody. */
  | { readonly type: 'publish'; readonly update: Update }
  /** An author has equivocated: tell everybody, and hold it against the author. */
  | { readonly type: 'equivocation'; readonly author: PeerId; readonly pair: Evidence }
  /** Something before what has come is missing: ask whoever gave it. */
  | { readonly type: 'missing'; readonly author: PeerId; readonly from: PeerId }
  | { readonly type: 'penalise'; readonly peer: PeerId; readonly verdict: Verdict<BroadcastVerdictCode> }

export type BroadcastStep = readonly [BroadcastState, readonly BroadcastEffect[]]
