import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Rng } from '../../base/rng.js'
import { MAX_PARALLEL_DIALS, MAX_WALK_CANDIDATES } from '../limits.js'
import { createInterruptibleSleep } from './interruptible-sleep.js'
import type { PeerId } from '../transport.js'

export interface Candidate {
  readonly peer: PeerId
  readonly addresses: readonly string[]
}

export interface DiscoveryOptions {
  readonly self: PeerId
  /** Stay quiet at or above this many useful peers. */
  readonly target: number
  /** Connected peers that count towards the target. */
  useful(): number
  connected(): readonly PeerId[]
  /** Asks the network who else is there. May name anybody, oneself included. */
  walk(signal: AbortSignal): Promise<readonly Candidate[]>
  dial(candidate: Candidate): Promise<boolean>
  /** Peers of the last run. */
  readonly remembered: readonly Candidate[]
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** Milliseconds between walks while they find somebody new; grows by half after each that does not. */
  readonly minIntervalMs?: number
  readonly maxIntervalMs?: number
}

export interface Discovery {
  /** Runs until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
  /** To be called when a peer came or went: looks again soon. */
  changed(): void
}

/** Finds peers beyond the bootstrap address: remembered ones, then those the DHT names, until there are enough. */
export function createDiscovery(options: DiscoveryOptions): Discovery {
  const { clock, rng, minIntervalMs = 500, maxIntervalMs = 30_000 } = options
  const pause = createInterruptibleSleep(clock)
  const rested = createRest(clock, maxIntervalMs)
  let intervalMs = minIntervalMs

  const round = async (signal: AbortSignal): Promise<boolean> => {
    const missing = options.target - options.useful()
    if (missing <= 0) return false
    const connected = new Set(options.connected())
    const found = connected.size === 0 ? [] : await options.walk(signal)
    const fresh = distinct([...options.remembered, ...found.slice(0, MAX_WALK_CANDIDATES)]).filter(
      ({ peer }) => peer !== options.self && !connected.has(peer) && rested.ready(peer)
    )
    const chosen = rng.shuffle(fresh).slice(0, Math.min(missing, MAX_PARALLEL_DIALS))
    if (signal.aborted) return false
    const reached = await Promise.all(
      chosen.map(async (candidate) => {
        rested.tried(candidate.peer)
        const ok = await options.dial(candidate)
        options.log.debug({ peer: candidate.peer, ok }, 'Dialled a discovered peer')
        return ok
      })
    )
    return reached.some(Boolean)
  }

  return {
    run: async (signal) => {
      while (!signal.aborted) {
        const progress = await round(signal)
        intervalMs = progress ? minIntervalMs : Math.min(maxIntervalMs, intervalMs * 1.5)
        await pause.sleep(intervalMs * (0.5 + rng.uniform() / 2), signal)
      }
    },
    changed: () => {
      // Only forgets the growth: a hundred arrivals must not start a hundred walks.
      if (intervalMs > 4 * minIntervalMs) pause.wake()
      intervalMs = minIntervalMs
    }
  }
}

function distinct(candidates: readonly Candidate[]): Candidate[] {
  // Later wins: an address from the network is newer than a remembered one.
  return [...new Map(candidates.map((candidate) => [candidate.peer, candidate])).values()]
}

/** Who was dialled lately is left alone for a while, whether it worked or not. */
function createRest(clock: Clock, restMs: number) {
  const until = new Map<PeerId, number>()
  return {
    ready: (peer: PeerId) => (until.get(peer) ?? 0) <= clock.now(),
    tried: (peer: PeerId) => {
      until.delete(peer)
      until.set(peer, clock.now() + restMs)
      if (until.size > 4 * MAX_WALK_CANDIDATES) until.delete(until.keys().next().value as PeerId)
    }
  }
}
