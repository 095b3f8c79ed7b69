import type { RefusalCode } from '../../codec/wire/messages.js'
import type { ExchangeVerdictCode } from '../../consensus/exchange/types.js'
import type { Observation } from '../../consensus/exchange/journal.js'
import type { ExchangeStats, ObservedExchanges } from '../participant/exchange-types.js'

/** Counts by code; codes are our own words, so their number is bounded. */
function tally<Code extends string>() {
  const counts = new Map<Code, number>()
  return {
    add: (code: Code): void => void counts.set(code, (counts.get(code) ?? 0) + 1),
    read: () => Object.fromEntries(counts) as Partial<Record<Code, number>>
  }
}

/** Exponential averages forget with this weight: the last ten exchanges make up two thirds of one. */
const AVERAGE_WEIGHT = 0.1

const averaged = (average: number | undefined, value: number): number =>
  average === undefined ? value : average + AVERAGE_WEIGHT * (value - average)

function withObservation(
  sum: ObservedExchanges,
  { distance, crossTerm, crossShare, scale, turns }: Observation
): ObservedExchanges {
  return {
    exchanges: sum.exchanges + 1,
    clipped: sum.clipped + (scale < 1 ? 1 : 0),
    onEdge: sum.onEdge + (turns > 0 ? 1 : 0),
    distance: averaged(sum.distance, distance),
    ...(crossTerm === undefined ? {} : { crossTerm: averaged(sum.crossTerm, crossTerm) }),
    ...(crossShare === undefined ? {} : { crossShare: averaged(sum.crossShare, crossShare) })
  }
}

/** The counters behind ExchangeStats. */
export function createTallies() {
  const refusedByUs = tally<RefusalCode>()
  const refusedByOthers = tally<RefusalCode>()
  const verdicts = tally<ExchangeVerdictCode>()
  let observed: ObservedExchanges = { exchanges: 0, clipped: 0, onEdge: 0 }
  const sums = { committed: 0, forgotten: 0, bytesSent: 0, bytesReceived: 0 }
  return {
    refusedByUs: refusedByUs.add,
    refusedByOthers: refusedByOthers.add,
    verdict: verdicts.add,
    committed(observation: Observation | undefined) {
      sums.committed++
      if (observation !== undefined) observed = withObservation(observed, observation)
    },
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
      observed,
      refusedByUs: refusedByUs.read(),
      refusedByOthers: refusedByOthers.read(),
      verdicts: verdicts.read()
    })
  }
}
