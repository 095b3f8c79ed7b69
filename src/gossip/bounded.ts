/**
 * Ends after `timeoutMs` or when `stopped` does, even where libp2p does not look at its signal. The timer is held here:
 * in Node 20 a signal made by `AbortSignal.any` and `AbortSignal.timeout` may be collected before it fires.
 */
export async function bounded<T>(
  work: (signal: AbortSignal) => Promise<T>,
  timeoutMs: number,
  stopped: AbortSignal
): Promise<T> {
  stopped.throwIfAborted()
  const limit = new AbortController()
  const late = Promise.withResolvers<never>()
  const end = (reason: unknown) => {
    limit.abort(reason)
    late.reject(reason)
  }
  const timer = setTimeout(() => end(new DOMException(`no answer within ${timeoutMs} ms`, 'TimeoutError')), timeoutMs)
  const onStop = () => end(stopped.reason)
  stopped.addEventListener('abort', onStop, { once: true })
  try {
    return await Promise.race([work(limit.signal), late.promise])
  } finally {
    clearTimeout(timer)
    stopped.removeEventListener('abort', onStop)
  }
}
