import type { Verdict } from '../base/verdict.js'

/** Base58 libp2p peer id. */
export type PeerId = string

/**
 * A two-way conversation with one peer: whole frames, in order, bounded. Both sides see `receive` resolve with
 * `undefined` when the other has closed, and reject with a `gossip/*` error when the link broke.
 */
export interface Channel {
  readonly peer: PeerId
  send(frame: Uint8Array): Promise<void>
  receive(options?: { readonly timeoutMs?: number }): Promise<Uint8Array | undefined>
  close(): Promise<void>
  /** Drops the link at once; the other side's `receive` rejects. */
  abort(reason: Error): void
}

/** Payload bytes handed to and taken from the wire, framing included where it is known. */
export interface TrafficCounters {
  readonly bytesSent: number
  readonly bytesReceived: number
}

export type ConnectFailureCode =
  | 'connection-refused'
  | 'wrong-network-key'
  | 'wrong-peer-id'
  | 'timeout'
  | 'unreachable'
  | 'not-peertune'
  | 'bad-address'

/** Why a peer could not be reached, with a sentence for people. */
export type ConnectOutcome =
  | { readonly ok: true; readonly peer: PeerId }
  | { readonly ok: false; readonly code: ConnectFailureCode; readonly address: string; readonly detail: string }

/** Bytes and peers; knows no tensors. Implementations: libp2p, and an in-memory one with injected faults. */
export interface Transport {
  readonly self: PeerId
  start(): Promise<void>
  /** Leaves: closes every connection. Idempotent. */
  stop(): Promise<void>
  /** Addresses others can dial, peer id included. */
  addresses(): readonly string[]
  connect(address: string): Promise<ConnectOutcome>
  /** Peers connected now. */
  connected(): readonly PeerId[]
  /** Connected peers subscribed to `topic`. */
  subscribers(topic: string): readonly PeerId[]

  /** Signed, at most MAX_ANNOUNCEMENT_BYTES; throws `gossip/announcement-too-large`. Reaching nobody is not an error. */
  publish(topic: string, bytes: Uint8Array): Promise<void>
  /** Only accepted messages are delivered and passed on; `from` is the signer. The validator must be quick and not throw. */
  subscribe(
    topic: string,
    validate: (from: PeerId, bytes: Uint8Array) => Verdict,
    deliver: (from: PeerId, bytes: Uint8Array) => void
  ): void

  /** Opens a conversation; rejects with a `gossip/*` error (unknown peer, protocol not spoken, too many streams). */
  open(peer: PeerId, protocol: string, signal?: AbortSignal): Promise<Channel>
  /** Answers conversations others open. A handler that throws aborts its channel and is logged. */
  handle(protocol: string, handler: (channel: Channel) => Promise<void>): void

  /** Closes connections to `peer` and refuses new ones for `forMs`. */
  ban(peer: PeerId, forMs: number): void
  on(event: 'connect' | 'disconnect', listener: (peer: PeerId) => void): () => void
  traffic(): TrafficCounters
}
