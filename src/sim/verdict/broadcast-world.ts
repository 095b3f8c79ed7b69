import { isPseudoGradientCodec, pseudoGradientCodec } from '../../codec/registry.js'
import { headsOf, sameHeads } from '../../consensus/broadcast/sync.js'
import { MAX_WEIGHT } from '../../consensus/weight.js'
import { MAX_AUTHORS, type StepRule } from '../../consensus/broadcast/fixed-point.js'
import { attackOf } from '../attack/attackers.js'
import { createBroadcastLedger } from '../world/broadcast-ledger.js'
import { nameOf } from '../peer/exchanger.js'
import type { Observer } from '../world/observer.js'
import type { BroadcastWorld, SimPeer, World } from '../peer/peer-state.js'
import type { Scenario } from '../world/scenario.js'
import type { Workload } from '../world/workload-types.js'

/** Virtual milliseconds after the end of the faults within which everybody must have heard everything. */
const SETTLE_LIMIT_MS = 600_000

/** What peers that broadcast have in common. */
export function broadcastOf(
  scenario: Scenario,
  { reference, schema, weights }: Pick<Workload, 'reference' | 'schema' | 'weights'>,
  observer: Observer
): BroadcastWorld {
  const { mixing, broadcast } = scenario
  const { codec, fraction } = mixing
  const rule: StepRule = {
    codec: pseudoGradientCodec(isPseudoGradientCodec(codec) ? codec : 'int8', { fraction }),
    size: reference.length,
    outerStep: broadcast.outerStep,
    maxStep: broadcast.maxStep
  }
  return {
    config: { federation: 'f'.repeat(64), schemaHash: schema?.hash ?? '0'.repeat(64), rule, maxAuthors: MAX_AUTHORS },
    ledger: createBroadcastLedger(observer.violated, rule),
    claims: weights.map((weight, peer) => (attackOf(scenario, peer) === 'heavy' ? MAX_WEIGHT : weight))
  }
}

/** The faults are over and nobody says anything new: what is still missing somewhere comes there, and all must agree. */
export async function settleBroadcast(
  { clock, network, observer, scenario, broadcast }: World,
  peers: readonly SimPeer[],
  honest: readonly SimPeer[]
): Promise<void> {
  network.heal()
  for (const peer of peers) peer.finish()
  const limitMs = scenario.durationMs + SETTLE_LIMIT_MS
  // What is still on its way or on a disk that is not safe yet.
  await clock.runUntil(clock.now() + scenario.network.frameTimeoutMs)
  while (!agree(honest) && clock.now() < limitMs) await clock.runUntil(clock.now() + 1_000)
  if (!agree(honest)) observer.violated('never-settled', 'not everybody has heard everything')
  broadcast?.ledger.close(
    honest.flatMap((peer) => {
      const broadcaster = peer.broadcaster?.()
      return broadcaster === undefined ? [] : [{ name: nameOf(peer.index), broadcaster }]
    })
  )
}

function agree(honest: readonly SimPeer[]): boolean {
  const states = honest.map((peer) => peer.broadcaster?.()?.state())
  const [first] = states
  if (first === undefined) return false
  const heads = headsOf(first)
  return states.every((state) => state !== undefined && sameHeads(headsOf(state), heads))
}
