import { PeertuneError } from '../base/errors.js'
import { MAX_ANNOUNCEMENT_BYTES } from './limits.js'
import type { GossipErrorCode } from './transport.js'

/** Mistakes of our own code that both transports catch with the same words. */

type GossipError = PeertuneError<GossipErrorCode>

export const topicNotAllowed = (topic: string, allowed: readonly string[]): GossipError =>
  new PeertuneError('gossip/topic-not-allowed', `"${topic}" is not one of this node's topics`, { facts: { allowed } })

export const announcementTooLarge = (topic: string, got: number): GossipError =>
  new PeertuneError('gossip/announcement-too-large', 'An announcement is too large for pubsub', {
    facts: { topic, got, expected: `at most ${MAX_ANNOUNCEMENT_BYTES} bytes` },
    hint: 'Announce a hash and send the rest over a channel'
  })

export const alreadyRegistered = (what: 'topic' | 'protocol', name: string): GossipError =>
  new PeertuneError('gossip/already-registered', `There is already a handler for ${what} "${name}"`)
