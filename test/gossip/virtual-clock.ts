import type { Clock } from '../../src/base/clock.js'

interface Sleeper {
  readonly at: number
  readonly order: number
  readonly wake: () => void
}

export interface VirtualClock extends Clock {
  /** Lets everything happen that is due within `ms`, in order, with all promises settled in between. */
  advance(ms: number): Promise<void>
}

/** Time that passes only when told; sleepers due at the same moment wake in the order they lay down. */
export function createVirtualClock(start = 1_000_000): VirtualClock {
  const sleepers = new Set<Sleeper>()
  let now = start
  let order = 0
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const onAbort = () => {
          sleepers.delete(sleeper)
          reject(signal?.reason)
        }
        const sleeper: Sleeper = {
          at: now + ms,
          order: order++,
          wake: () => {
            signal?.removeEventListener('abort', onAbort)
            resolve()
          }
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', onAbort, { once: true })
      }),
    advance: async (ms) => {
      const end = now + ms
      for (;;) {
        await settle()
        const [next] = [...sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.order - b.order)
        if (next === undefined) break
        sleepers.delete(next)
        now = Math.max(now, next.at)
        next.wake()
      }
      now = end
      await settle()
    }
  }
}
