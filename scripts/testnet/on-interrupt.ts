import { constants } from 'node:os'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
const works = new Set<() => void>()

function leave(signal: (typeof SIGNALS)[number]): void {
  for (const work of works) work()
  process.exit(128 + constants.signals[signal])
}

/** Does `work` before SIGINT or SIGTERM ends this process, so that no child outlives it; call the result when all is over. */
export function onInterrupt(work: () => void): () => void {
  if (works.size === 0) for (const signal of SIGNALS) process.on(signal, leave)
  works.add(work)
  return () => {
    works.delete(work)
    if (works.size === 0) for (const signal of SIGNALS) process.off(signal, leave)
  }
}
