import type { Clock } from '../../base/clock.js'
import { isPeertuneError } from '../../base/errors.js'
import type { Channel, PeerId, Transport } from '../../gossip/transport.js'

export interface OpenOptions {
  readonly peer: PeerId
  readonly protocol: string
  readonly timeoutMs: number
}

/** A channel within its time, or the transport's reason for none. */
export async function openChannel(
  transport: Transport,
  clock: Clock,
  { peer, protocol, timeoutMs }: OpenOptions
): Promise<Channel | string> {
  const done = new AbortController()
  const giveUp = new AbortController()
  const late = clock.sleep(timeoutMs, done.signal).then(
    () => giveUp.abort(new Error(`no channel within ${timeoutMs} ms`)),
    () => undefined
  )
  try {
    return await transport.open(peer, protocol, giveUp.signal)
  } catch (error) {
    return isPeertuneError(error) ? error.code : 'gossip/open-failed'
  } finally {
    done.abort()
    await late
  }
}
