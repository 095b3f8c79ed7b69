import type { Verdict } from '../base/verdict.js'

/** Base58 libp2p peer id. */
export type PeerId = string

/** What the methods of this interface throw or reject with. */
export type GossipErrorCode =
  | 'gossip/not-running'
  | 'gossip/not-connected'
  | 'gossip/unsupported-protocol'
  | 'gossip/too-many-channels'
  | 'gossip/open-failed'
  | 'gossip/topic-not-allowed'
  | 'gossip/already-registered'
  | 'gossip/announcement-too-large'
  | 'gossip/frame-too-large'
  | 'gossip/receive-overlap'
  | 'gossip/receive-timeout'
  | 'gossip/channel-closed'
  | 'gossip/channel-broken'

export interface ReceiveOptions {
  /** Milliseconds to wait for the whole frame; `gossip/receive-timeout` after that, and the channel stays usable. */
  readonly timeoutMs?: number
  /** Largest frame the caller is ready for; a longer one breaks the channel with `gossip/frame-too-large`, unread. */
  readonly maxBytes?: number
}

/**
 * A two-way conversation with one peer: whole frames, in order, bounded. Both sides see `receive` resolve with
 * `undefined` when the other has closed, and reject with a `gossip/*` error when the link broke.
 */
export interface Channel {
  readonly peer: PeerId
  /** Resolves when the link took the frame, which is no proof that it arrived. */
  send(frame: Uint8Array): Promise<void>
  /** One call at a time (`gossip/receive-overlap`). */
  receive(options?: ReceiveOptions): Promise<Uint8Array | undefined>
  /** Ends the conversation after everything sent before; idempotent. Own `receive` gives `undefined` afterwards. */
  close(): Promise<void>
  /** Drops the link at once; the other side's `receive` rejects. */
  abort(reason: Error): void
}

/** Bytes handed to and taken from the wire, framing included where it is known. */
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
  /** The address is this node's own. */
  | 'self'
  /** This node banned that peer. */
  | 'banned'

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

  /** Opens a conversation; rejects with a `gossip/*` error (unknown peer, protocol not spoken, too many channels).
   *  `signal` gives up the opening, and aborts the channel later. */
  open(peer: PeerId, protocol: string, signal?: AbortSignal): Promise<Channel>
  /** Answers conversations others open. The channel closes when the handler ends; one that throws aborts it, logged. */
  handle(protocol: string, handler: (channel: Channel) => Promise<void>): void

  /** Closes connections to `peer` and refuses new ones for `forMs`. */
  ban(peer: PeerId, forMs: number): void
  on(event: 'connect' | 'disconnect', listener: (peer: PeerId) => void): () => void
  /** Since the start: everything on the wire, or the streams shared with one peer. */
  traffic(peer?: PeerId): TrafficCounters
}
