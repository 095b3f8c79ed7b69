import type { Clock } from '../../base/clock.js'

export interface RateLimitInit {
  /** Units a quiet key may take at once. */
  readonly burst: number
  readonly perSecond: number
  /** Keys remembered; the longest unused goes first, and starts with a full burst if it comes back. */
  readonly maxKeys: number
}

/** A token bucket per key: `true` if this one may pass. What does not pass takes nothing. */
export function rateLimit(
  clock: Clock,
  { burst, perSecond, maxKeys }: RateLimitInit
): (key: string, units?: number) => boolean {
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  return (key, units = 1) => {
    const nowMs = clock.now()
    const last = buckets.get(key) ?? { tokens: burst, atMs: nowMs }
    const tokens = Math.min(burst, last.tokens + (Math.max(0, nowMs - last.atMs) / 1000) * perSecond)
    const passes = tokens >= units
    // Deleted first, so that the key used last stands last.
    buckets.delete(key)
    buckets.set(key, { tokens: passes ? tokens - units : tokens, atMs: nowMs })
    if (buckets.size > maxKeys) buckets.delete(buckets.keys().next().value as string)
    return passes
  }
}
