/** What gossip calls a peer id. Rooms of one layer do not import each other; to this room it is an opaque, ordered text. */
export type PeerId = string
