import type { Clock } from '../../base/clock.js'

/** A sleep that can be cut short: by `wake` (it resolves) or by the signal (it resolves too; look at the signal). */
export interface InterruptibleSleep {
  sleep(ms: number, signal: AbortSignal): Promise<void>
  wake(): void
}

export function createInterruptibleSleep(clock: Clock): InterruptibleSleep {
  let alarm: AbortController | undefined
  return {
    sleep: async (ms, signal) => {
      if (signal.aborted) return
      const mine = new AbortController()
      alarm = mine
      const onAbort = () => mine.abort()
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        await clock.sleep(ms, mine.signal)
      } catch {
        // Woken: the caller looks at the world again.
      } finally {
        signal.removeEventListener('abort', onAbort)
        if (alarm === mine) alarm = undefined
      }
    },
    wake: () => alarm?.abort()
  }
}
