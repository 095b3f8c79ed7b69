/** Protocols of our own; the version is part of the name, so an incompatible one is simply not spoken. */
export const HELLO_PROTOCOL = '/peertune/hello/1.0.0'
export const EXCHANGE_PROTOCOL = '/peertune/exchange/1.0.0'
export const STATE_PROTOCOL = '/peertune/state/1.0.0'
export const SYNC_PROTOCOL = '/peertune/broadcast/1.0.0'
/** Our DHT is apart from the public IPFS one: strangers' nodes are no candidates, and ours no load on theirs. */
export const DHT_PROTOCOL = '/peertune/kad/1.0.0'

/** The pubsub topic of one federation, from its manifest hash (64 hexadecimal digits). */
export const announceTopic = (federationHash: string): string => `peertune/1/${federationHash}/announce`

/** Where updates are published in a federation whose peers broadcast. */
export const updatesTopic = (federationHash: string): string => `peertune/1/${federationHash}/updates`

/** Every topic a member listens to: all others are refused by the node, whoever asks. */
export const federationTopics = (federationHash: string): readonly string[] => [
  announceTopic(federationHash),
  updatesTopic(federationHash)
]
