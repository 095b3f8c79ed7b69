import type { Clock } from '../base/clock.js'
import { describeError, PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import type { Channel, GossipErrorCode, PeerId } from './transport.js'

/** What both transports say about a channel: the code, who, and a sentence. */
export function channelError(
  code: GossipErrorCode,
  peer: PeerId,
  detail: string,
  cause?: unknown
): PeertuneError<GossipErrorCode> {
  return new PeertuneError(code, `Channel with ${shortPeer(peer)}: ${detail}`, { facts: { peer }, cause })
}

/** The last eight characters: the first ones are the same for every Ed25519 peer id. */
export const shortPeer = (peer: PeerId): string => (peer.length > 12 ? `…${peer.slice(-8)}` : peer)

/** The same bytes, never a Node Buffer: its `slice` shares memory where Uint8Array's copies. */
export const plainBytes = (bytes: Uint8Array): Uint8Array =>
  Object.getPrototypeOf(bytes) === Uint8Array.prototype
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** `wait` within `ms`, otherwise `gossip/receive-timeout`; `wait` itself goes on. */
export async function deadline<T>(
  wait: Promise<T>,
  { clock, ms, peer }: { readonly clock: Clock; readonly ms: number; readonly peer: PeerId }
): Promise<T> {
  const done = new AbortController()
  const late = clock.sleep(ms, done.signal).then(() => {
    throw channelError('gossip/receive-timeout', peer, `no whole frame within ${ms} ms`)
  })
  try {
    return await Promise.race([wait, late])
  } finally {
    // Ends the timer; nobody waits for its rejection any more.
    late.catch(() => undefined)
    done.abort()
  }
}

/** Resolves when `wait` settles, however it does, or after `ms`. */
export async function atMost(ms: number, wait: Promise<unknown>, clock: Clock): Promise<void> {
  const done = new AbortController()
  const ignored = () => undefined
  await Promise.race([wait.then(ignored, ignored), clock.sleep(ms, done.signal).catch(ignored)])
  done.abort()
}

export type ChannelHandler = (channel: Channel) => Promise<void>

/** Runs a handler and ends its channel; nothing that happens in it may reach the process. */
export async function converse(
  channel: Channel,
  handler: ChannelHandler,
  { protocol, log }: { readonly protocol: string; readonly log: Logger }
): Promise<void> {
  try {
    await handler(channel)
    await channel.close()
  } catch (error) {
    const code = error instanceof PeertuneError ? error.code : undefined
    log.warn({ peer: channel.peer, protocol, code }, `A conversation failed: ${describeError(error)}`)
    channel.abort(asError(error))
  }
}

export const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))
