import type { Clock } from '../../base/clock.js'

/** One that returns a promise keeps the time standing still until it is settled. */
export type ClockEvent = () => unknown

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly run: ClockEvent
}

/** Time that passes only as far as events are due; everything due at the same moment happens in the order it was set. */
export interface VirtualClock extends Clock {
  /** Runs `event` after `delayMs`. Events cannot be taken back: what they find changed, they leave alone. */
  after(delayMs: number, event: ClockEvent): void
  /** Runs every event due up to and including `untilMs`, one after the other, then stands there. */
  runUntil(untilMs: number): Promise<void>
  /** Events waiting. */
  pending(): number
}

/** Events are due in the order of (time, number): a binary heap over one array. */
export function createVirtualClock(startMs = 0): VirtualClock {
  const heap: Timer[] = []
  let now = startMs
  let order = 0

  function after(delayMs: number, run: ClockEvent): void {
    push(heap, { atMs: now + Math.max(0, delayMs), order: order++, run })
  }
  return {
    now: () => now,
    after,
    async runUntil(untilMs) {
      while (heap.length > 0 && heap[0]!.atMs <= untilMs) {
        const next = pop(heap)!
        now = Math.max(now, next.atMs)
        const underWay = next.run()
        // A turn of the loop for each of millions of events would cost more than they do.
        if (underWay instanceof Promise) await underWay
      }
      now = Math.max(now, untilMs)
    },
    pending: () => heap.length,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
        after(ms, resolve)
      })
  }
}

const isEarlier = (a: Timer, b: Timer): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)

function push(heap: Timer[], timer: Timer): void {
  let at = heap.length
  heap.push(timer)
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!isEarlier(timer, heap[parent]!)) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = timer
}

function pop(heap: Timer[]): Timer | undefined {
  const first = heap[0]
  const last = heap.pop()
  if (first === undefined || last === undefined || heap.length === 0) return first
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && isEarlier(heap[child + 1]!, heap[child]!)) child++
    if (!isEarlier(heap[child]!, last)) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = last
  return first
}
