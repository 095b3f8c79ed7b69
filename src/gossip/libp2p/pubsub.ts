import type { GossipSub } from '@chainsafe/libp2p-gossipsub'
import { type Message, TopicValidatorResult } from '@libp2p/interface'
import { describeError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { reject, type Verdict } from '../../base/verdict.js'
import { plainBytes } from '../channel.js'
import { MAX_ANNOUNCEMENT_BYTES } from '../limits.js'
import type { PeerId } from '../transport.js'

export interface Subscription {
  validate(from: PeerId, bytes: Uint8Array): Verdict
  deliver(from: PeerId, bytes: Uint8Array): void
}

export interface PubsubOptions {
  readonly isBanned: (peer: PeerId) => boolean
  readonly log: Logger
  /** A peer passed on what it had to check and refuse. */
  readonly onOffence?: (peer: PeerId, verdict: Verdict) => void
}

const RESULTS = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject
} as const

/** Puts our verdicts into gossipsub. A `reject` costs the peer that passed the message on, who had to check it too. */
export function bindSubscription(
  pubsub: GossipSub,
  topic: string,
  subscription: Subscription,
  { isBanned, log, onOffence }: PubsubOptions
): void {
  pubsub.topicValidators.set(topic, (passedOnBy, message) => {
    const author = signer(message)
    if (author === undefined) return TopicValidatorResult.Reject
    if (message.data.length > MAX_ANNOUNCEMENT_BYTES) {
      onOffence?.(passedOnBy.toString(), reject('gossip/announcement-too-large', `${message.data.length} bytes`))
      return TopicValidatorResult.Reject
    }
    if (isBanned(author)) return TopicValidatorResult.Ignore
    try {
      return RESULTS[subscription.validate(author, plainBytes(message.data)).verdict]
    } catch (error) {
      // A validator that throws is our own bug: the sender is not to blame.
      log.error({ topic, from: author }, `A validator failed: ${describeError(error)}`)
      return TopicValidatorResult.Ignore
    }
  })
  pubsub.addEventListener('message', ({ detail }) => {
    const author = signer(detail)
    if (detail.topic !== topic || author === undefined) return
    try {
      subscription.deliver(author, plainBytes(detail.data))
    } catch (error) {
      log.error({ topic, from: author }, `A delivery failed: ${describeError(error)}`)
    }
  })
  pubsub.subscribe(topic)
}

const signer = (message: Message): PeerId | undefined =>
  message.type === 'signed' ? message.from.toString() : undefined
