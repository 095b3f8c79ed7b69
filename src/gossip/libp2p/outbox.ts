import type { Uint8ArrayList } from 'uint8arraylist'
import { PeertuneError } from '../../base/errors.js'

export interface Outbox extends AsyncIterableIterator<Uint8ArrayList> {
  /** Resolves when the stream took the whole frame and asks for the next. */
  push(frame: Uint8ArrayList): Promise<void>
  end(): void
  fail(error: Error): void
}

/**
 * What `send` hands to the stream's sink: one frame at a time, so that a slow link slows the sender. A plain iterator,
 * because `return()` of a generator would wait for its pending `next()` and the sink of a reset stream never end.
 */
export function createOutbox(): Outbox {
  interface Parcel {
    readonly frame: Uint8ArrayList
    readonly resolve: () => void
    readonly reject: (error: Error) => void
  }
  const queue: Parcel[] = []
  let underWay: Parcel | undefined
  let wake: ((result: IteratorResult<Uint8ArrayList>) => void) | undefined
  let ended = false
  let failure: Error | undefined

  const take = (): IteratorResult<Uint8ArrayList> | undefined => {
    underWay = queue.shift()
    if (underWay !== undefined) return { done: false, value: underWay.frame }
    return ended ? { done: true, value: undefined } : undefined
  }
  const hand = () => {
    if (wake === undefined) return
    const next = take()
    if (next === undefined) return
    wake(next)
    wake = undefined
  }
  const fail = (error: Error) => {
    failure ??= error
    ended = true
    for (const parcel of [...(underWay === undefined ? [] : [underWay]), ...queue.splice(0)]) parcel.reject(failure)
    underWay = undefined
    hand()
  }

  const outbox: Outbox = {
    [Symbol.asyncIterator]: () => outbox,
    next: () => {
      underWay?.resolve()
      const next = take()
      if (next !== undefined) return Promise.resolve(next)
      return new Promise((resolve) => {
        wake = resolve
      })
    },
    return: () => {
      fail(new PeertuneError('gossip/channel-broken', 'The link is gone'))
      return Promise.resolve({ done: true, value: undefined })
    },
    push: (frame) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure)
        queue.push({ frame, resolve, reject })
        hand()
      }),
    end: () => {
      ended = true
      hand()
    },
    fail
  }
  return outbox
}
