import { runScenario } from '../../src/sim/run.js'
import { readScenario } from '../../src/sim/world/scenario.js'
import { wholeFlag } from '../flags.js'

/** Virtual milliseconds; a peer makes about one exchange a second. */
const DURATION_MS = 19_000
/** The small network that the large one is compared with. */
const SMALL = 64
/** Exchanges per peer of the large network against the small one. */
const MAX_RATIO = 1.5

/** Peers with one weight that start apart and only mix, each knowing 64 others. */
function scenario(peers: number, size: number, seed: number) {
  return readScenario({
    name: 'scale',
    seed: String(seed),
    peers,
    durationMs: DURATION_MS,
    measureMs: 500,
    overlay: { kind: 'random-peers', known: 64 },
    workload: { kind: 'none', size, samples: [100, 100] }
  })
}

/**
 * `npm run bench -- simulate [--peers N] [--size N] [--seed N] [--json]`: exchanges per peer until the consensus error is
 * a hundredth, in a large network and in one of 64, with the very machines of the daemon.
 */
export async function run(args: readonly string[]): Promise<object> {
  const peers = wholeFlag(args, '--peers', 10_000)
  const size = wholeFlag(args, '--size', 10_000)
  const seed = wholeFlag(args, '--seed', 1)
  const startedMs = performance.now()
  const small = await runScenario(scenario(SMALL, size, seed))
  const large = await runScenario(scenario(peers, size, seed), {
    onMeasurement: ({ atMs, error, exchangesPerPeer }) => {
      if (atMs % 2_000 === 0)
        console.log(
          `${(atMs / 1000).toFixed(0)} s: consensus error ${error.toExponential(1)} after ` +
            `${exchangesPerPeer.toFixed(1)} exchanges per peer (${secondsSince(startedMs).toFixed(0)} s real)`
        )
    }
  })
  const result = {
    peers,
    size,
    seconds: secondsSince(startedMs),
    maxResidentGb: process.resourceUsage().maxRSS / 2 ** 20,
    exchanges: large.exchanges,
    exchangesPerPeer: { [SMALL]: small.exchangesToShrink, [peers]: large.exchangesToShrink },
    ratio: (large.exchangesToShrink ?? Number.POSITIVE_INFINITY) / (small.exchangesToShrink ?? Number.NaN),
    maxRatio: MAX_RATIO,
    drift: large.drift,
    bytes: large.network.bytes,
    violations: [...small.violations, ...large.violations]
  }
  console.log(
    `${peers} peers of ${size} parameters: ${result.exchangesPerPeer[peers]?.toFixed(1)} exchanges per peer to a ` +
      `hundredth, ${result.exchangesPerPeer[SMALL]?.toFixed(1)} with ${SMALL} peers (ratio ${result.ratio.toFixed(2)}, ` +
      `at most ${MAX_RATIO}); ${result.seconds.toFixed(0)} s, ${result.maxResidentGb.toFixed(2)} GB`
  )
  return result
}

const secondsSince = (startedMs: number): number => (performance.now() - startedMs) / 1000
