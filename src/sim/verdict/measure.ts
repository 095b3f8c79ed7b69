import type { SimPeer, World } from '../peer/peer-state.js'
import type { Learned } from '../world/workload-types.js'

/** What the network looks like at one moment; the honest peers of it. */
export interface Measurement extends Learned {
  /** Virtual milliseconds. */
  readonly atMs: number
  /** Root of the weighted mean of ||x_i - mean||^2. */
  readonly distance: number
  /** `distance` over that of the start; 1 where peers start at one point. */
  readonly error: number
  /** Weighted mean of the parameters, float64[size]. */
  readonly mean: Float64Array
  /** Exchanges that an honest peer has taken part in, on average. */
  readonly exchangesPerPeer: number
  /** Bytes sent by all. */
  readonly bytes: number
  readonly running: number
}

export interface MeasureOptions {
  /** The distance errors are relative to; 0 for the first measurement. */
  readonly startDistance: number
  /** At the end of the run. */
  readonly last?: boolean
}

export async function measure(
  world: World,
  peers: readonly SimPeer[],
  { startDistance, last = false }: MeasureOptions
): Promise<Measurement> {
  const mean = meanOf(peers)
  const apart = spread(peers, mean)
  const distance = apart <= ROUNDING * normOf(mean) ? 0 : apart
  const { workload, observer, network, clock } = world
  return {
    atMs: clock.now(),
    distance,
    error: startDistance === 0 ? 1 : distance / startDistance,
    mean,
    ...(await workload.measure({ mean, peers: peers.map(({ parameters }) => parameters) }, last)),
    exchangesPerPeer: (2 * observer.ledger.whole()) / peers.length,
    bytes: network.stats.bytes,
    running: peers.filter((peer) => peer.running()).length
  }
}

/** Weighted mean of the parameters, float64[size]. */
export function meanOf(peers: readonly SimPeer[]): Float64Array {
  const total = peers.reduce((sum, { weight }) => sum + weight, 0)
  const mean = new Float64Array(peers[0]!.parameters.length)
  for (const { parameters, weight } of peers) {
    const share = weight / total
    for (let k = 0; k < mean.length; k++) mean[k] = mean[k]! + share * parameters[k]!
  }
  return mean
}

function spread(peers: readonly SimPeer[], mean: Float64Array): number {
  let [sum, total] = [0, 0]
  for (const { parameters, weight } of peers) {
    let square = 0
    for (let k = 0; k < mean.length; k++) square += (parameters[k]! - mean[k]!) ** 2
    sum += weight * square
    total += weight
  }
  return Math.sqrt(sum / total)
}

/** Below this share of the mean's norm, distance is the rounding of the mean. */
const ROUNDING = 1e-12

const normOf = (x: Float64Array): number => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0))

/** Root of the weighted mean of ||x_i||^2. */
export function sizeOf(peers: readonly SimPeer[]): number {
  const origin = new Float64Array(peers[0]!.parameters.length)
  return spread(peers, origin)
}

/**
 * How far the weighted mean is from where it should be, relative to its norm or, where vectors cancel in the mean, to
 * `size`, theirs: roundings are as large as what was rounded.
 */
export function driftFrom(peers: readonly SimPeer[], expected: Float64Array, size: number): number {
  const moved = meanOf(peers).map((value, k) => value - expected[k]!)
  return normOf(moved) / Math.max(size, normOf(expected))
}
