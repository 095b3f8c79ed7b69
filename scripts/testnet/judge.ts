import { PeertuneError } from '../../src/base/errors.js'
import { readTrained } from '../../src/node/trained/trained.js'
import { weightedMean } from '../../src/tensor/linear.js'
import { type Bench, openBench } from './baselines.js'
import { crashRecoveriesOf } from './crash-recovery.js'
import { explain, sumOf } from './explain.js'
import type { PeerReport, TestnetReport } from './report.js'
import type { Scenario } from './scenario.js'
import { worst } from './stalls.js'
import type { FinishedPeer } from './testnet-peer.js'
import type { Trial } from './trial.js'

/** Measures what the peers have, from their last checkpoints, and trains the two baselines on the two cores. */
export async function judge(
  trial: Trial,
  finished: readonly FinishedPeer[]
): Promise<Omit<TestnetReport, 'seconds' | 'timeline'>> {
  const { scenario } = trial
  const benches = await Promise.all([openBench(scenario), openBench(scenario)])
  try {
    const [lone, united] = benches
    const [peers, both] = await Promise.all([judgePeers(trial, lone, finished), judgeTogether(trial, united, finished)])
    const sent = finished.reduce((sum, { status }) => sum + status.bytes.sent, 0)
    const plain = finished.reduce((sum, { status }) => sum + status.bytes.float32Equivalent, 0)
    return {
      task: scenario.title,
      metric: scenario.metric,
      peers,
      ...both,
      bytesRatio: sent / plain,
      comebacks: (await Promise.all(finished.map((peer) => crashRecoveriesOf(scenario, lone.schema, peer)))).flat(),
      stalls: worst(finished.map(({ stalls }) => stalls)),
      refusals: explain(finished.flatMap(({ refusals }) => refusals))
    }
  } finally {
    await Promise.all(benches.map((bench) => bench.close()))
  }
}

async function judgePeers(
  { scenario, options, signal }: Trial,
  bench: Bench,
  finished: readonly FinishedPeer[]
): Promise<PeerReport[]> {
  const reports: PeerReport[] = []
  for (const peer of finished) {
    if (signal.aborted) throw new PeertuneError('testnet/interrupted', 'interrupted')
    const { status } = peer
    const mixed = await bench.measure(await lastParameters(scenario, bench, peer))
    const localOnly = options.localOnly
      ? await bench.train(scenario.dataOfPeer(peer.index), scenario.training.steps)
      : null
    reports.push({
      peerId: status.peerId,
      steps: status.steps.done,
      localOnly,
      mixed,
      exchanges: status.exchanges.completed,
      bytesSent: status.bytes.sent,
      refusals: sumOf(peer.refusals),
      stalls: peer.stalls,
      status: peer.statusUrl
    })
  }
  return reports
}

async function judgeTogether(
  { scenario, options }: Trial,
  bench: Bench,
  finished: readonly FinishedPeer[]
): Promise<Pick<TestnetReport, 'start' | 'merged' | 'central'>> {
  const parameters = await Promise.all(finished.map((peer) => lastParameters(scenario, bench, peer)))
  const weights = await Promise.all(finished.map((peer) => bench.examples(scenario.dataOfPeer(peer.index))))
  const start = await bench.measure(bench.initial)
  const merged = await bench.measure(Float32Array.from(weightedMean(parameters, weights)))
  const steps = scenario.training.steps * finished.length
  const central = options.central ? await bench.train(scenario.allData, steps) : null
  return { start, merged, central }
}

/** What the peer would go on from: its last checkpoint, and what it has exchanged since. */
async function lastParameters(scenario: Scenario, bench: Bench, peer: FinishedPeer): Promise<Float32Array> {
  const state = await readTrained(peer.dataDir, scenario.manifest, bench.schema)
  if (state !== undefined) return state.parameters
  throw new PeertuneError('testnet/no-checkpoint', `node ${peer.index} left no checkpoint in ${peer.dataDir}`)
}
