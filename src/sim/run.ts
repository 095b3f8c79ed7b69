import { createHash } from 'node:crypto'
import { seededRng } from '../base/rng.js'
import { codecByName } from '../codec/registry.js'
import { metropolisHastings, predictedExchanges, spectralGap } from './study/mixing-matrix.js'
import { complete, createOverlay, type Overlay } from '../consensus/partners/overlay.js'
import type { RoundsConfig } from '../consensus/rounds.js'
import { driftOf, keepsMean } from './verdict/drift.js'
import { joinsAt, planChurn } from './peer/churn.js'
import { MAX_LINKS, nameOf } from './peer/exchanger.js'
import type { Violation } from './world/ledger.js'
import { meanOf, measure, type Measurement, sizeOf } from './verdict/measure.js'
import { createBroadcastPeer } from './peer/broadcast-peer.js'
import { broadcastOf, settleBroadcast } from './verdict/broadcast-world.js'
import { createNetwork, type NetworkStats, type PeerIndex } from './world/network.js'
import { createObserver } from './world/observer.js'
import { createPeer } from './peer/peer.js'
import type { SimPeer, World } from './peer/peer-state.js'
import type { Scenario } from './world/scenario.js'
import { settle } from './verdict/settle.js'
import { createVirtualClock } from './world/virtual-clock.js'
import { type Training, trainedWorkload } from './workload/trained.js'
import { createProblem, knownWorkload } from './workload/workload.js'

/** Overlays up to this size get their spectral gap computed. */
const MAX_GAP_PEERS = 512
/** Consensus error that predictions are made for: a hundredth of that of the start. */
const SHRINK = 100

export interface RunResult {
  readonly scenario: Scenario
  readonly measurements: readonly Measurement[]
  /** Exchanges that both honest sides applied. */
  readonly exchanges: number
  /** Exchanges of the honest peer that made most, and of the average one: equal where nobody is asked more than others. */
  readonly load: { readonly max: number; readonly mean: number }
  /** Updates that honest peers have told the others, where peers broadcast. */
  readonly updates?: number
  /** Exchanges per honest peer, each counted at both, when the consensus error was first a hundredth of the start's. */
  readonly exchangesToShrink: number | undefined
  /** 1 - ||W - J|| of the overlay with Metropolis-Hastings weights; absent for large ones. */
  readonly spectralGap: number | undefined
  /** What randomized pairwise gossip on this overlay needs at most, in expectation. */
  readonly predictedExchanges: number | undefined
  /** How far the weighted mean has moved beyond what was to move it, relative; see drift.ts. */
  readonly drift: number | undefined
  readonly network: NetworkStats
  /** What happened how often. */
  readonly counts: Readonly<Record<string, number>>
  readonly violations: readonly Violation[]
  /** Virtual milliseconds until everything was settled. */
  readonly settledMs: number
  /** Equal for equal seeds. */
  readonly traceHash: string
}

export interface RunOptions {
  readonly onTrace?: (line: string) => void
  readonly onMeasurement?: (measurement: Measurement) => void
  /** Ends the run before its time, once a measurement is enough. */
  readonly until?: (measurement: Measurement) => boolean
  /** What peers train, for a workload of the kind `trained`. */
  readonly training?: Training
}

/** A whole network from its first event to the settlement of its last exchange. Same scenario, same result. */
export async function runScenario(scenario: Scenario, options: RunOptions = {}): Promise<RunResult> {
  const { onTrace, onMeasurement, until, training } = options
  const clock = createVirtualClock()
  const exact = keepsMean(scenario)
  const observer = createObserver({ clock, exact, maxLinks: MAX_LINKS, ...(onTrace === undefined ? {} : { onTrace }) })
  const { world, peers, overlay } = createWorld(scenario, { clock, observer, training })
  const honest = peers.filter((peer) => peer.honest)
  const before = meanOf(honest)
  const present = () => honest.filter(({ index }) => joinsAt(scenario, index) <= clock.now())
  const first = await measure(world, present(), { startDistance: 0 })
  const { distance: startDistance } = first
  const size = sizeOf(honest)
  const measurements: Measurement[] = [first]
  planChurn(world, peers)
  let enough = false
  for (let atMs = scenario.measureMs; atMs <= scenario.durationMs && !enough; atMs += scenario.measureMs) {
    await clock.runUntil(atMs)
    const one = await measure(world, present(), { startDistance })
    measurements.push(one)
    onMeasurement?.(one)
    enough = until?.(one) ?? false
  }
  if (!enough) await clock.runUntil(scenario.durationMs)
  await (world.broadcast === undefined ? settle(world, peers, honest) : settleBroadcast(world, peers, honest))
  const moved = driftOf({ scenario, peers: honest, before, size, whole: observer.ledger.whole() })
  if (moved !== undefined && !(moved.drift <= moved.explained))
    observer.violated('mean-moved', `by ${moved.drift} of itself`)
  const gaps = overlay !== undefined && overlay.length <= MAX_GAP_PEERS
  return {
    scenario,
    measurements: [...measurements, await measure(world, honest, { startDistance, last: true })],
    exchanges: observer.ledger.whole(),
    load: loadOf(honest),
    ...(world.broadcast && { updates: world.broadcast.ledger.told() }),
    exchangesToShrink: measurements.find(({ error }) => error <= 1 / SHRINK)?.exchangesPerPeer,
    spectralGap: gaps ? spectralGap(metropolisHastings(overlay)) : undefined,
    predictedExchanges: gaps ? predictedExchanges(overlay, SHRINK) : undefined,
    drift: moved?.drift,
    network: { ...world.network.stats },
    counts: observer.counts(),
    violations: observer.violations(),
    settledMs: clock.now(),
    traceHash: fingerprint(observer.traceHash(), peers)
  }
}

function loadOf(peers: readonly SimPeer[]): RunResult['load'] {
  const made = peers.map((peer) => peer.rounds().exchanges)
  return { max: Math.max(...made), mean: made.reduce((sum, count) => sum + count, 0) / made.length }
}

/** The trace and the last bit of every parameter. */
function fingerprint(trace: string, peers: readonly SimPeer[]): string {
  const hash = createHash('sha256').update(trace)
  for (const { parameters } of peers)
    hash.update(new Uint8Array(parameters.buffer, parameters.byteOffset, parameters.byteLength))
  return hash.digest('hex')
}

interface WorldParts extends Pick<World, 'clock' | 'observer'> {
  readonly training: Training | undefined
}

function createWorld(scenario: Scenario, { clock, observer, training }: WorldParts) {
  const { peers: count, mixing } = scenario
  const workload = training === undefined ? knownWorkload(createProblem(scenario)) : trainedWorkload(scenario, training)
  const { reference, schema } = workload
  const size = reference.length
  const overlay = overlayOf(scenario)
  // One block for all: ten thousand small arrays would cost the collector more than the mathematics.
  const arena = new Float32Array(count * size)
  const peers: SimPeer[] = []
  const world: World = {
    scenario,
    clock,
    observer,
    workload,
    names: Array.from({ length: count }, (_, peer) => nameOf(peer)),
    network: createNetwork(scenario, clock),
    config: {
      federation: 'f'.repeat(64),
      schema: { hash: schema?.hash ?? '0'.repeat(64), size },
      reference,
      codec: codecByName(mixing.codec, { fraction: mixing.fraction, ...(schema && { schema }) }),
      ...ruleOf(mixing)
    },
    ...(mixing.mode === 'broadcast' && { broadcast: broadcastOf(scenario, workload, observer) }),
    rounds: roundsOf(scenario),
    neighbours: overlay === undefined ? acquaintances(scenario) : (peer) => overlay[peer]!,
    peerAt: (peer) => peers[peer]!
  }
  for (let peer = 0; peer < count; peer++) {
    const parameters = arena.subarray(peer * size, (peer + 1) * size)
    workload.begin(peer, parameters)
    peers.push((world.broadcast === undefined ? createPeer : createBroadcastPeer)(world, peer, parameters))
  }
  return { world, peers, overlay }
}

/** The daemon's own rules, by the scenario's names. */
function ruleOf({
  gamma,
  localSteps,
  clip,
  maxPull,
  robust,
  window,
  liars,
  outerDecay,
  outerStep
}: Scenario['mixing']) {
  const balance = { rule: robust, strictness: 1, decay: 1 } as const
  return {
    gamma,
    localSteps,
    ...(clip === 0 ? {} : { clip }),
    ...(maxPull === 1 ? {} : { maxPull }),
    ...(robust === 'none'
      ? {}
      : { robust: robust === 'balance' ? { ...balance, rule: robust } : { rule: robust, window, liars } }),
    ...(outerDecay === 0 ? {} : { outer: { decay: outerDecay, step: outerStep } })
  }
}

function roundsOf({ mixing, durationMs }: Scenario): RoundsConfig {
  const { localSteps, totalSteps, settleExchanges } = mixing
  return {
    localSteps,
    totalSteps: totalSteps === 0 ? Number.POSITIVE_INFINITY : totalSteps,
    settleExchanges,
    isolationFactor: 10,
    settleWaitMs: durationMs,
    settlePatienceMs: durationMs / 4,
    aloneWaitMs: durationMs
  }
}

/** Absent where everybody knows some others of its own. */
function overlayOf({ seed, overlay, peers }: Scenario): Overlay | undefined {
  const { kind, degree, known } = overlay
  if (kind === 'random-peers') return known >= peers - 1 ? complete(peers) : undefined
  return createOverlay(kind, { size: peers, degree, rng: seededRng(seed, 'overlay') })
}

/** `known` others, drawn once for each peer. */
function acquaintances({ seed, overlay, peers }: Scenario): World['neighbours'] {
  const known = new Map<PeerIndex, readonly PeerIndex[]>()
  return (peer) => {
    const before = known.get(peer)
    if (before !== undefined) return before
    const rng = seededRng(seed, 'known', peer)
    const drawnPeers = new Set<PeerIndex>()
    while (drawnPeers.size < overlay.known) {
      const other = rng.integer(peers)
      if (other !== peer) drawnPeers.add(other)
    }
    const list = [...drawnPeers]
    known.set(peer, list)
    return list
  }
}
