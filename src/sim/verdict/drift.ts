import { driftFrom } from './measure.js'
import type { SimPeer } from '../peer/peer-state.js'
import type { Scenario } from '../world/scenario.js'

/** Relative drift of the weighted mean that roundings of float32 explain: any, and those of an exchange, at random. */
const ROUNDING_DRIFT = 1e-6
const ADDING_DRIFT = 4 * 2 ** -24

/** Of the pair, in every exchange: what each side does to the weighted mean, the other undoes. */
export const keepsMean = ({ mixing }: Scenario): boolean =>
  mixing.mode !== 'broadcast' && mixing.outerDecay === 0 && (mixing.robust === 'none' || mixing.robust === 'balance')

/** How far the weighted mean of the honest is from where it should be, and how far roundings may have taken it. */
export interface Drift {
  readonly drift: number
  readonly explained: number
}

export interface DriftParts {
  readonly scenario: Scenario
  /** The honest peers. */
  readonly peers: readonly SimPeer[]
  /** Their weighted mean at the start, float64[size], and the size of their vectors then. */
  readonly before: Float64Array
  readonly size: number
  /** Exchanges that both honest sides applied. */
  readonly whole: number
}

/**
 * The mean is where local steps, liars and looks at others' states have put it: exchanges between honest peers add nothing.
 * Absent where the rule itself moves it, and where nothing of it is finite any more.
 */
export function driftOf({ scenario, peers, before, size, whole }: DriftParts): Drift | undefined {
  if (!keepsMean(scenario)) return undefined
  const total = peers.reduce((sum, { weight }) => sum + weight, 0)
  const expected = before.slice()
  let largest = size
  let roundings = (2 * whole) / peers.length
  for (const peer of peers) {
    const { exchanges, largest: most } = peer.hostile()
    // A liar may take somebody far away and another back: what was rounded was as large as it ever became.
    largest = Math.max(largest, most)
    roundings += exchanges
    peer.moved()?.forEach((value, k) => {
      expected[k] = expected[k]! + (peer.weight / total) * value
    })
  }
  return {
    drift: driftFrom(peers, expected, largest),
    explained: ROUNDING_DRIFT + ADDING_DRIFT * Math.sqrt(roundings)
  }
}
