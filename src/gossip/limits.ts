/** Every bound of this room, with its unit and reason. Checked before anything is allocated. */

/**
 * Bytes of one announcement. gossipsub's own limit is 4 MiB per RPC, and a peer that exceeds it is dropped from pubsub
 * without a word; announcements carry ids, hashes and numbers, so 64 KiB is plenty and stays far away from that cliff.
 */
export const MAX_ANNOUNCEMENT_BYTES = 65_536

/**
 * Bytes of one inbound gossipsub RPC. An RPC may carry several announcements and control messages, hence 16 times one
 * announcement; a longer one ends the sender's pubsub stream and gets the sender banned.
 */
export const MAX_GOSSIP_RPC_BYTES = 1_048_576

/** Bytes of one channel frame: an int8 update of 60 million parameters, or float32 of 16 million, in one piece. */
export const MAX_FRAME_BYTES = 67_108_864

/** Bytes of declared but not yet delivered frames from one peer: two of the largest frames. */
export const MAX_INBOUND_BYTES_PER_PEER = 2 * MAX_FRAME_BYTES

/** Bytes of declared but not yet delivered frames from everybody together. */
export const MAX_INBOUND_BYTES = 8 * MAX_FRAME_BYTES

/** Channels of one protocol with one peer, each direction: a peer has one exchange at a time and a few control ones. */
export const MAX_CHANNELS_PER_PEER = 16

/** Milliseconds `receive` waits for a whole frame: a slow sender may not hold a channel for ever. */
export const RECEIVE_TIMEOUT_MS = 60_000

/** Milliseconds a closed channel waits for the other side's close before it is reset. */
export const CLOSE_LINGER_MS = 5_000

/** Frames queued in one direction of an in-memory channel before `send` waits. */
export const MAX_QUEUED_FRAMES = 64

/** Milliseconds for one dial, name resolution and handshakes included. */
export const DIAL_TIMEOUT_MS = 10_000

/** Milliseconds that a port which failed a handshake gets to say what it is. */
export const PROBE_TIMEOUT_MS = 2_000

/** Connections in all; libp2p prunes the least valued above it. */
export const MAX_CONNECTIONS = 256

/** Connections to one peer: simultaneous dials leave two or three, more is abuse. */
export const MAX_CONNECTIONS_PER_PEER = 4

/** Inbound connections per second from one host: several nodes of one site share an address behind a NAT. */
export const MAX_INBOUND_CONNECTIONS_PER_SECOND = 100

/** Inbound connections whose handshake is not finished. */
export const MAX_PENDING_CONNECTIONS = 64

/** Peers of one's own federation that discovery tries to stay connected to; pubsub reaches the others through them. */
export const TARGET_PEERS = 16

/** Peers dialled at the same time by one discovery round. */
export const MAX_PARALLEL_DIALS = 8

/** Peers one DHT walk may name; a hostile answer can list thousands. */
export const MAX_WALK_CANDIDATES = 64

/** Bootstrap addresses: each has its own redial loop. */
export const MAX_BOOTSTRAP_ADDRESSES = 32

/** Peers remembered on disk, and addresses of each. */
export const MAX_KNOWN_PEERS = 64
export const MAX_ADDRESSES_PER_PEER = 4

/** Bytes of the file of remembered peers. */
export const MAX_KNOWN_PEERS_BYTES = 65_536

/** Bans and penalties kept; the oldest goes first. */
export const MAX_BANS = 10_000

/** Peers whose traffic is kept apart; the longest unseen goes first. */
export const MAX_METERED_PEERS = 4_096

/** Records (peer store, DHT providers) kept in memory; strangers can add to them, so the oldest goes first. */
export const MAX_RECORDS = 10_000

/** Milliseconds without one byte from a peer, pings included, before its connections are dropped. */
export const DEAD_PEER_MS = 60_000

/** Inbound pubsub bytes a peer may send at once, and per second after that: 256 announcements, then 32 a second. */
export const GOSSIP_BURST_BYTES = 16_777_216
export const GOSSIP_BYTES_PER_SECOND = 2_097_152

/** Milliseconds a peer stays banned for breaking the framing of pubsub or flooding it. */
export const FLOOD_BAN_MS = 600_000

/** Bytes of a hello, its name and its version (UTF-16 units for the last two). */
export const MAX_HELLO_BYTES = 1_024
export const MAX_HELLO_TEXT = 64

/** Hello records kept. */
export const MAX_HELLO_RECORDS = 1_024
