/**
 * `Promise.withResolvers` for Node 20: libp2p's queues call it at the first peer-store write.
 * Import this module first in every entry point (daemon, trainer child, test set-up).
 */
Promise.withResolvers ??= function withResolvers<T>(this: PromiseConstructor) {
  let resolve!: (value: T | PromiseLike<T>) => void
  let reject!: (reason?: unknown) => void
  const promise = new this<T>((a, b) => {
    resolve = a
    reject = b
  })
  return { promise, resolve, reject }
} as PromiseConstructor['withResolvers']
