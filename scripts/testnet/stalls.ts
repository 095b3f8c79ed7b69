import type { Status } from '../../src/status/snapshot.js'

/** The longest that one peer stood still, in milliseconds; as far as polls of its status can tell. */
export interface Stalls {
  /** Between two completed exchanges while it trained and somebody else who trained was connected. */
  readonly exchangeMs: number
  /** Between two local steps while it trained. */
  readonly stepMs: number
}

export const worst = (all: readonly Stalls[]): Stalls => ({
  exchangeMs: Math.max(0, ...all.map(({ exchangeMs }) => exchangeMs)),
  stepMs: Math.max(0, ...all.map(({ stepMs }) => stepMs))
})

export interface StallWatch {
  /** One look at a peer; `undefined` when it is down or does not answer its status yet. */
  look(status: Status | undefined, others: readonly (Status | undefined)[], nowMs: number): void
  /** The process has ended: what it did not do from now on is no stall. */
  down(): void
  read(): Stalls
}

const newestExchange = ({ peers }: Status): number => Math.max(0, ...peers.map((peer) => peer.lastExchangeAtMs ?? 0))

/** Is somebody there to exchange with: connected, of this federation, in training? */
function hasPartner(status: Status, others: readonly (Status | undefined)[]): boolean {
  const training = new Set(others.filter((other) => other?.phase === 'training').map((other) => other?.peerId))
  return status.peers.some((peer) => peer.connected && peer.sameFederation === true && training.has(peer.peerId))
}

export function createStallWatch(): StallWatch {
  let exchangeMs = 0
  let stepMs = 0
  /** Since when an exchange, or a step, is waited for; absent while none is to be expected. */
  let exchangeSince: number | undefined
  let stepSince: { readonly done: number; readonly ms: number } | undefined
  const down = (): void => {
    exchangeSince = undefined
    stepSince = undefined
  }
  return {
    down,
    read: () => ({ exchangeMs, stepMs }),
    look(status, others, nowMs) {
      // A status that does not come in time is itself a stall, and goes on counting.
      if (status === undefined) return
      if (status.phase !== 'training') return down()
      const { done } = status.steps
      if (stepSince !== undefined) stepMs = Math.max(stepMs, nowMs - stepSince.ms)
      if (stepSince === undefined || done !== stepSince.done) stepSince = { done, ms: nowMs }
      if (!hasPartner(status, others)) {
        exchangeSince = undefined
        return
      }
      const newest = newestExchange(status)
      const since = exchangeSince
      exchangeSince = Math.max(since ?? nowMs, newest)
      if (since === undefined) return
      // Either one was made meanwhile, or it is still waited for.
      exchangeMs = Math.max(exchangeMs, (newest > since ? newest : nowMs) - since)
    }
  }
}
