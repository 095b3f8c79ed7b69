import type { RefusalCode } from '../codec/messages.js'
import type { ExchangeVerdictCode } from '../consensus/exchange-types.js'
import type { ExchangeStats } from './exchange-types.js'

/** Counts by code; codes are our own words, so their number is bounded. */
function tally<Code extends string>() {
  const counts = new Map<Code, number>()
  return {
    add: (code: Code): void => void counts.set(code, (counts.get(code) ?? 0) + 1),
    read: () => Object.fromEntries(counts) as Partial<Record<Code, number>>
  }
}

/** The counters behind ExchangeStats. */
export function createTallies() {
  const refusedByUs = tally<RefusalCode>()
  const refusedByOthers = tally<RefusalCode>()
  const verdicts = tally<ExchangeVerdictCode>()
  const sums = { committed: 0, forgotten: 0, bytesSent: 0, bytesReceived: 0 }
  return {
    refusedByUs: refusedByUs.add,
    refusedByOthers: refusedByOthers.add,
    verdict: verdicts.add,
    committed: () => void sums.committed++,
    forgotten: () => void sums.forgotten++,
    sent(bytes: number) {
      sums.bytesSent += bytes
    },
    received(bytes: number) {
      sums.bytesReceived += bytes
    },
    read: (inDoubt: number): ExchangeStats => ({
      ...sums,
      inDoubt,
      refusedByUs: refusedByUs.read(),
      refusedByOthers: refusedByOthers.read(),
      verdicts: verdicts.read()
    })
  }
}
