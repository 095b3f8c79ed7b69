/** Where a peer stands: local steps, then gossip only with learning rate 0, then answering others only. */
export type Phase = 'training' | 'settling' | 'done'

/** Why an exchange was not made, as told to the partner. `unspecified` stands for a code of a newer version. */
export type RefusalCode =
  | 'unspecified'
  | 'busy'
  | 'other-federation'
  | 'other-schema'
  | 'other-codec'
  | 'other-gamma'
  | 'absurd-weight'
  | 'duplicate-exchange'
  | 'unknown-exchange'
  | 'bad-checksum'
  | 'bad-payload'
  | 'not-finite'
  | 'malformed'
  | 'rate-limited'
  | 'leaving'

/** What became of an exchange; only its responder can say. */
export type ExchangeFate = 'committed' | 'undone'

/** 16 bytes as 32 lower-case hexadecimal digits; chosen by the initiator, never used twice. */
export type ExchangeId = string

/** The raw bytes that follow a message on its channel, in chunks (payload.ts). */
export interface PayloadHeader {
  readonly sizeBytes: number
  /** Lower-case hexadecimal SHA-256 of the payload. */
  readonly sha256: string
}

/** What two peers have told each other so far, as both of them name it. */
export interface EdgeReference {
  /** Lower-case hexadecimal SHA-256, chains the payloads of every exchange since the common start. */
  readonly hash: string
  /** Exchanges in the chain. */
  readonly sequence: number
}

/** Initiator to responder: let us mix. */
export interface HelloMessage {
  readonly type: 'hello'
  readonly exchangeId: ExchangeId
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  /** Hash of the parameter schema, hexadecimal. */
  readonly schema: string
  readonly phase: Phase
  /** Training examples behind the sender's parameters. */
  readonly weight: number
  readonly codec: string
  /** The mixing step. */
  readonly gamma: number
  /** What the sender still knows of the edge; absent: only the common start. */
  readonly reference?: EdgeReference
  /** The longest difference the sender follows whole, at least 0; absent: any. */
  readonly radius?: number
  /** Neighbours of the sender on the federation's overlay; absent where partners are drawn at random. */
  readonly degree?: number
  /** Rank slots of the sender, where peers of the federation may differ in that; `schema` is of so many. */
  readonly slots?: number
}

/** Responder to initiator: yes, and this is my side. */
export interface AcceptMessage {
  readonly type: 'accept'
  readonly exchangeId: ExchangeId
  readonly phase: Phase
  readonly weight: number
  readonly payload: PayloadHeader
  /** That of HELLO, where the responder knows it too; absent: both code against the common start. */
  readonly reference?: EdgeReference
  readonly radius?: number
  readonly degree?: number
  readonly slots?: number
}

/** Either to the other: no, or no longer. From a responder it is final: the exchange is undone. */
export interface RefuseMessage {
  readonly type: 'refuse'
  readonly exchangeId: ExchangeId
  readonly code: RefusalCode
}

/** Initiator to responder: this is my side. Once it has arrived whole, the exchange has happened. */
export interface CommitMessage {
  readonly type: 'commit'
  readonly exchangeId: ExchangeId
  readonly payload: PayloadHeader
}

/** Responder to initiator: it has happened. */
export interface AckMessage {
  readonly type: 'ack'
  readonly exchangeId: ExchangeId
}

/** A former initiator in doubt asks the responder what became of an exchange. */
export interface ResolveMessage {
  readonly type: 'resolve'
  readonly exchangeId: ExchangeId
}

export interface ResolutionMessage {
  readonly type: 'resolution'
  readonly exchangeId: ExchangeId
  readonly fate: ExchangeFate
}

/** Everything that is said on an exchange channel. Never carries its sender: the channel knows who that is. */
export type ExchangeMessage =
  | HelloMessage
  | AcceptMessage
  | RefuseMessage
  | CommitMessage
  | AckMessage
  | ResolveMessage
  | ResolutionMessage

/** The header of the payload that follows `message`, where one does. */
export const payloadOf = (message: ExchangeMessage): PayloadHeader | undefined =>
  message.type === 'accept' || message.type === 'commit' ? message.payload : undefined

/** What a peer tells its federation about itself. The sender is whoever signed it, never a field. */
export interface Announcement {
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  /** Rises with every announcement of a peer, restarts included. */
  readonly sequence: number
  /** Local optimiser steps taken. */
  readonly step: number
  readonly phase: Phase
  /** Mean training loss in nats since the last announcement; absent before the first step. */
  readonly loss?: number
  /** Training examples, the peer's weight. */
  readonly samples: number
  /** Exchanges committed, in either role. */
  readonly exchanges: number
  readonly bytesSent: number
  readonly bytesReceived: number
  /** Software and version, e.g. `peertune/0.1.0`; printable ASCII. */
  readonly software: string
  /** A name for people; no control characters. */
  readonly label?: string
}
