import type { RobustSpec } from '../../base/mixing-rules.js'
import type { Verdict } from '../../base/verdict.js'
import type { CodecVerdictCode, VectorCodec } from '../../codec/codec.js'
import type { ExchangeId, ExchangeMessage, HelloMessage, Phase, RefusalCode } from '../../codec/wire/messages.js'
import type { DistanceMeasure } from '../rules/distance.js'
import type { LogEntry } from './exchange-log.js'
import type { Edge, Edges } from './edges.js'
import type { ExchangeRole, Journal, Observation } from './journal.js'
import type { PeerId } from '../peer-id.js'
import type { Layouts } from '../rules/layouts.js'
import type { MixingRule } from '../rules/mixing.js'
import type { OuterMomentum, OuterState } from '../rules/outer-momentum.js'
import type { Distances } from '../rules/radius.js'
import type { KnownLosses, RecentStates } from '../rules/robust-rule.js'

/** A conversation with one peer; the driver numbers them and never uses a number twice. */
export type LinkId = number

export type ExchangeVerdictCode =
  | CodecVerdictCode
  | `exchange/${RefusalCode}`
  | 'exchange/unexpected-message'
  | 'exchange/too-many-messages'
  | 'exchange/over-message-budget'
  | 'exchange/over-byte-budget'
  | 'exchange/timeout'
  /** What our own momentum, or a rule over several states, makes of an exchange leads out of what we could send. */
  | 'exchange/own-step-too-far'
  /** Counted, held against nobody: other data may be the reason. */
  | 'exchange/worse-than-start'

export interface ExchangeConfig {
  readonly self: PeerId
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  readonly schema: { readonly hash: string; readonly size: number }
  /** The common seeded start x0, float32[schema.size]; what both ends code differences from. */
  readonly reference: Float32Array
  readonly codec: VectorCodec
  /** The mixing step. */
  readonly gamma: number
  /** Our training examples. */
  readonly weight: number
  /**
   * Differs on every start of this node. Exchange ids are derived from it, so that a node restored from a checkpoint
   * does not use the ids of the life it lost.
   */
  readonly incarnation: string
  /** Default: `pairwiseMean`. */
  readonly mix?: MixingRule
  /** How far two peers are apart. Default: `euclidean`; `productDistance` for adapters made of factors. */
  readonly measure?: DistanceMeasure
  /** Partners are followed up to this many median distances (radius.ts). Absent: all the way. */
  readonly clip?: number
  /** Of the way to a partner, what an exchange takes either side at most, whatever weights are claimed. Absent: any share. */
  readonly maxPull?: number
  /** Local steps between exchanges (H), by which the age of what was measured is told. Default 1. */
  readonly localSteps?: number
  /** What stands in the place of `mix` where several partners' states are weighed against each other. */
  readonly robust?: RobustSpec
  /** Momentum on what the exchange has come to. Absent: none. */
  readonly outer?: OuterMomentum
  /** Where peers may differ in rank; absent: all have our schema. */
  readonly layouts?: Layouts
}

/** What the machine may look at while it takes one step; `parameters` is read, not kept. */
export interface LocalState {
  readonly parameters: Float32Array
  readonly phase: Phase
  /** Local steps taken. Default 0. */
  readonly step?: number
  /** Share of the planned steps taken, in [0, 1]. Default 0. */
  readonly progress?: number
  /** Our neighbours on the federation's overlay now; absent where partners are drawn at random. */
  readonly degree?: number
}

/** Where an event finds us: what is agreed on in the federation, and what we are at the moment. */
export interface Standpoint {
  readonly config: ExchangeConfig
  readonly local: LocalState
}

/** What each side lays down before it knows the other's vector. */
export interface Terms {
  /** The longest difference we follow whole; absent: any. */
  readonly radius?: number
  /** What `radius` would be were we not the odd one out. Not told to anybody. */
  readonly usual?: number
  /** Our neighbours on the overlay; absent: pairs average. */
  readonly degree?: number
}

/** One side of an exchange: its bytes, and the vector both ends will take them for. */
export interface Side {
  readonly payload: Uint8Array
  /** Lower-case hexadecimal SHA-256 of the payload. */
  readonly sha256: string
  /** float32[schema.size]. */
  readonly vector: Float32Array
}

/**
 * A node takes part in at most one exchange at a time.
 * Initiator: `asking` (RESOLVE sent, HELLO will follow) -> `greeting` (HELLO sent) -> `committing` (COMMIT sent).
 * Responder: `asked` (HELLO waits for the answer to our RESOLVE) -> `accepted` (ACCEPT sent).
 */
export type ActiveExchange =
  | { readonly stage: 'asking'; readonly link: LinkId; readonly peer: PeerId; readonly exchangeId: ExchangeId }
  | {
      readonly stage: 'greeting'
      readonly link: LinkId
      readonly peer: PeerId
      readonly exchangeId: ExchangeId
      /** What HELLO has offered to code against. */
      readonly edge: Edge | undefined
      /** As announced in HELLO. */
      readonly terms: Terms
    }
  | { readonly stage: 'committing'; readonly link: LinkId; readonly peer: PeerId; readonly exchangeId: ExchangeId }
  | {
      readonly stage: 'asked'
      readonly link: LinkId
      readonly peer: PeerId
      readonly exchangeId: ExchangeId
      readonly hello: HelloMessage
    }
  | {
      readonly stage: 'accepted'
      readonly link: LinkId
      readonly peer: PeerId
      readonly exchangeId: ExchangeId
      readonly hello: HelloMessage
      /** What both code against; absent: the common start. */
      readonly edge: Edge | undefined
      /** As announced in ACCEPT. */
      readonly terms: Terms
      readonly own: Side
    }

export interface ExchangeState {
  readonly active: ActiveExchange | undefined
  readonly journal: Journal
  /** What is known of the partners of committed exchanges, for codecs with a memory. */
  readonly edges: Edges
  readonly distances: Distances
  /** The last states of the last partners, for rules that weigh several; empty without one. */
  readonly recent: RecentStates
  /** For rules that compare losses; absent before the first were measured. */
  readonly losses?: KnownLosses
  /** Absent without momentum, and before the first exchange of a life. */
  readonly outer?: OuterState
  /** Exchanges initiated in this life; makes ids unique. */
  readonly initiated: number
}

/** A message with the payload that goes behind it. */
export interface Parcel<Message extends ExchangeMessage = ExchangeMessage> {
  readonly message: Message
  readonly payload?: Uint8Array | undefined
}

export type ExchangeEvent =
  /** We want to mix with `peer` and have opened `link` to it. */
  | { readonly type: 'initiate'; readonly link: LinkId; readonly peer: PeerId }
  /** A message has arrived whole, its payload with it. */
  | (Parcel & { readonly type: 'message'; readonly link: LinkId; readonly peer: PeerId })
  /** The peer sent something that is no message, or nothing for too long. The link is no longer used. */
  | {
      readonly type: 'unreadable'
      readonly link: LinkId
      readonly peer: PeerId
      readonly verdict: Verdict<ExchangeVerdictCode>
    }
  /** The link has ended, by either side or by accident. */
  | { readonly type: 'broken'; readonly link: LinkId; readonly peer: PeerId }

/** How an exchange ended. `in-doubt` is settled at the next contact with the peer. */
export type ExchangeOutcome =
  | { readonly kind: 'committed' }
  | { readonly kind: 'in-doubt' }
  /** A partner called while we were opening a channel, or one with a smaller id while we waited for an answer. */
  | { readonly kind: 'yielded' }
  | { readonly kind: 'refused'; readonly code: RefusalCode }
  | { readonly kind: 'failed'; readonly code: ExchangeVerdictCode | 'exchange/broken-link' | 'exchange/superseded' }

/** What the driver must do, in this order. `apply` must not be separated from the state it came with. */
export type ExchangeEffect =
  /** Must be safe from a crash before anything is sent that was asked for after it. */
  | { readonly type: 'record'; readonly entry: LogEntry }
  | {
      readonly type: 'send'
      readonly link: LinkId
      readonly message: ExchangeMessage
      readonly payload?: Uint8Array
    }
  /** Nothing more is expected on the link: close it once what was sent is out. */
  | { readonly type: 'close'; readonly link: LinkId }
  /** An exchange has happened: add the increment to the live parameters. Exactly once for every committed exchange. */
  | {
      readonly type: 'apply'
      readonly peer: PeerId
      readonly exchangeId: ExchangeId
      readonly role: ExchangeRole
      readonly partnerPhase: Phase
      readonly increment: Float32Array
      /** Absent for an exchange that was in doubt when an earlier version of the software stopped. */
      readonly observed?: Observation
    }
  /** An exchange in doubt turned out not to have happened: its increment is dropped. */
  | { readonly type: 'undone'; readonly peer: PeerId; readonly exchangeId: ExchangeId }
  /** MAX_IN_DOUBT was reached: the oldest exchange in doubt will never be settled. */
  | { readonly type: 'forgotten'; readonly peer: PeerId; readonly exchangeId: ExchangeId }
  /** A judgement on what the peer sent; `reject` should cost it something. */
  | { readonly type: 'penalise'; readonly peer: PeerId; readonly verdict: Verdict<ExchangeVerdictCode> }
  | {
      readonly type: 'finished'
      readonly link: LinkId
      readonly peer: PeerId
      readonly role: ExchangeRole
      readonly outcome: ExchangeOutcome
    }

/** The new state and what is to be done about it. */
export type Step = readonly [ExchangeState, readonly ExchangeEffect[]]
