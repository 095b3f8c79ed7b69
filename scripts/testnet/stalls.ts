import type { Status } from '../../src/status/snapshot.js'

/** The longest that one peer stood still, in milliseconds; as far as polls of its status can tell. */
export interface Stalls {
  /** For an exchange that was due, while it trained and somebody else who trained was connected. */
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

/** Local steps done by then. */
interface Moment {
  readonly done: number
  readonly nowMs: number
}

/** `localSteps`: after so many local steps an exchange is due. */
export function createStallWatch(localSteps: number): StallWatch {
  let exchangeMs = 0
  let stepMs = 0
  let waited: { readonly done: number; readonly ms: number } | undefined
  /** The last exchange that was seen, and the steps taken by then. */
  let last = { atMs: 0, done: 0 }
  /** Since when one is due and could be had. */
  let dueSince: number | undefined
  const down = (): void => {
    dueSince = undefined
    waited = undefined
  }

  function lookAtSteps({ done, nowMs }: Moment): void {
    if (waited !== undefined) stepMs = Math.max(stepMs, nowMs - waited.ms)
    if (waited === undefined || done !== waited.done) waited = { done, ms: nowMs }
  }
  function lookAtExchanges(newest: number, partner: boolean, { done, nowMs }: Moment): void {
    // A restarted peer may have fewer steps than before.
    if (done < last.done) last = { ...last, done }
    if (newest > last.atMs) {
      if (dueSince !== undefined) exchangeMs = Math.max(exchangeMs, newest - dueSince)
      last = { atMs: newest, done }
      dueSince = undefined
    }
    if (done - last.done < localSteps || !partner) dueSince = undefined
    else dueSince ??= nowMs
    if (dueSince !== undefined) exchangeMs = Math.max(exchangeMs, nowMs - dueSince)
  }
  return {
    down,
    read: () => ({ exchangeMs, stepMs }),
    look(status, others, nowMs) {
      // A status that does not come in time is itself a stall, and goes on counting.
      if (status === undefined) return
      if (status.phase !== 'training') return down()
      const { done } = status.steps
      lookAtSteps({ done, nowMs })
      lookAtExchanges(newestExchange(status), hasPartner(status, others), { done, nowMs })
    }
  }
}
