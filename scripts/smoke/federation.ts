import { systemClock } from '../../src/base/clock.js'
import { PeertuneError } from '../../src/base/errors.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { readTrained } from '../../src/node/trained/trained.js'
import type { Status } from '../../src/status/snapshot.js'
import { openBench } from '../testnet/baselines.js'
import { crashRecoveriesOf } from '../testnet/crash-recovery.js'
import { onInterrupt } from '../testnet/on-interrupt.js'
import { parseOptions } from '../testnet/options.js'
import { writePeerFiles } from '../testnet/peer-files.js'
import { GLYPH_MODEL, glyphScenario, type Scenario } from '../testnet/scenario.js'
import { createTestnetPeer, type TestnetPeer } from '../testnet/testnet-peer.js'

/** More steps than there is time for, in small batches: it is about the machine, not about what is learned. */
const FLAGS = ['--peers', '2', '--steps', '100000', '--batch-size', '8', '--local-steps', '4']
const CHECKPOINT_EVERY = 2
const POLL_MS = 50
/** For everything together; seconds on an idle machine. */
const TIMEOUT_MS = 300_000

/** Two nodes that train and mix; one gets SIGKILL on the way, and goes on with what it had learned and exchanged. */
export async function checkFederation(folder: string): Promise<string[]> {
  const options = parseOptions(FLAGS)
  if (options === 'help') return []
  const scenario = glyphScenario(options, await modelSha256(GLYPH_MODEL))
  const files = await writePeerFiles({ folder, scenario, options, checkpointEvery: CHECKPOINT_EVERY })
  const [first, second] = files.map((one, index) => createTestnetPeer(index, one, scenario.manifest.mixing.localSteps))
  if (first === undefined || second === undefined) return []
  const killBoth = () => {
    for (const peer of [first, second]) peer.kill()
  }
  const over = onInterrupt(killBoth)
  try {
    await mixAndKill(first, second)
  } finally {
    killBoth()
    over()
  }
  return complaintsOf(scenario, second)
}

async function mixAndKill(first: TestnetPeer, second: TestnetPeer): Promise<void> {
  const deadline = systemClock.now() + TIMEOUT_MS
  await first.start([])
  await second.start(first.addresses())
  const met = await until(
    second,
    ({ exchanges, checkpoint }) => exchanges.completed >= 2 * CHECKPOINT_EVERY && checkpoint !== undefined,
    deadline
  )
  await second.crash()
  await second.start(first.addresses())
  await until(
    second,
    ({ exchanges, steps }) => exchanges.completed > met.exchanges.completed && steps.done > met.steps.done,
    deadline
  )
  await Promise.all([first.stop(), second.stop()])
}

async function until(peer: TestnetPeer, condition: (status: Status) => boolean, deadline: number): Promise<Status> {
  for (;;) {
    await peer.poll()
    const status = peer.status()
    if (status !== undefined && condition(status)) return status
    if (!peer.alive()) throw new PeertuneError('smoke/node-died', `node ${peer.index} ended: ${await peer.exited()}`)
    if (systemClock.now() > deadline)
      throw new PeertuneError('smoke/timeout', `not finished in time: ${JSON.stringify(status)}`)
    await systemClock.sleep(POLL_MS)
  }
}

/** What the peer that was killed went on from, and what it has learned in both lives. */
async function complaintsOf(scenario: Scenario, peer: TestnetPeer): Promise<string[]> {
  const bench = await openBench(scenario)
  try {
    const { index, files } = peer
    const recoveries = await crashRecoveriesOf(scenario, bench.schema, {
      index,
      crashes: peer.crashes(),
      log: files.log
    })
    const goesOn = recoveries.length === 1 && recoveries.every(({ kept, step }) => kept && step > 0)
    const trained = await readTrained(files.dataDir, scenario.manifest, bench.schema)
    const before = await bench.measure(bench.initial)
    const after = trained === undefined ? before : await bench.measure(trained.parameters)
    return [
      ...(goesOn ? [] : [`the peer that was killed went on with other parameters: ${JSON.stringify(recoveries)}`]),
      ...(after > before ? [] : [`nothing was learned: accuracy ${before} became ${after}`])
    ]
  } finally {
    await bench.close()
  }
}
