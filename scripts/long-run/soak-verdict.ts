import { spread } from './testnets.js'
import type { Outcome } from './step.js'

/** A node at one moment. */
export interface Sample {
  /** Since all were started. */
  readonly seconds: number
  readonly nodeMb: number
  readonly trainerMb: number
  readonly exchanges: number
  /** How often its trainer had to be started again. */
  readonly restarts: number
}

/** What the last third's memory may lie above the second third's: caches fill and heaps breathe, a leak goes on. */
const MAX_GROWTH = { share: 0.1, mb: 16 }
/** The pace of the last third against the second third's. */
const LEAST_PACE = 0.5
/** Fewer samples than this in a third say nothing. */
const LEAST_SAMPLES = 5

/** The first third is for caches and for those that come late: the second is compared with the last. */
export function judgeSoak(peers: readonly (readonly Sample[])[]): Outcome {
  const last = peers.map((samples) => samples.at(-1))
  return {
    facts: {
      exchanges: last.reduce((sum, sample) => sum + (sample?.exchanges ?? 0), 0),
      'resident MB of a node, least / mean / most': spread(
        last.map((sample) => sample?.nodeMb ?? 0),
        0
      ),
      'resident MB of a trainer': spread(
        last.map((sample) => sample?.trainerMb ?? 0),
        0
      )
    },
    complaints: peers.flatMap((samples, peer) => complaintsOf(samples).map((complaint) => `peer ${peer}: ${complaint}`))
  }
}

function complaintsOf(samples: readonly Sample[]): string[] {
  const third = Math.floor(samples.length / 3)
  if (third < LEAST_SAMPLES) return [`only ${samples.length} answers`]
  const [before, after] = [samples.slice(third, 2 * third), samples.slice(-third)]
  const restarts = samples.at(-1)?.restarts ?? 0
  return [
    ...grown('the node', before, after, ({ nodeMb }) => nodeMb),
    ...grown('the trainer', before, after, ({ trainerMb }) => trainerMb),
    ...(pace(after) >= LEAST_PACE * pace(before)
      ? []
      : [`${pace(after).toFixed(2)} exchanges a second at the end, ${pace(before).toFixed(2)} before`]),
    ...(restarts === 0 ? [] : [`its trainer was started again ${restarts} times`])
  ]
}

type Read = (sample: Sample) => number

function grown(what: string, before: readonly Sample[], after: readonly Sample[], read: Read): string[] {
  const [was, is] = [median(before.map(read)), median(after.map(read))]
  return is <= was * (1 + MAX_GROWTH.share) + MAX_GROWTH.mb
    ? []
    : [`${what} grew from ${was.toFixed(0)} to ${is.toFixed(0)} MB`]
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

function pace(samples: readonly Sample[]): number {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined || last.seconds === first.seconds) return 0
  return (last.exchanges - first.exchanges) / (last.seconds - first.seconds)
}
