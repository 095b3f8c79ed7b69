import { type FederationManifest, metricOf } from '../base/federation.js'
import type { BootstrapDiagnosis } from '../gossip/discovery/bootstrap.js'
import type { HelloRecord } from '../gossip/hello.js'
import type { PeerId, TrafficCounters } from '../gossip/transport.js'
import type { BootstrapStatus, PeerStatus, Phase, Status } from '../status/snapshot.js'
import type { ChildTrainer } from '../train/process/child-trainer.js'
import type { TrainerDescription } from '../train/trainer.js'
import type { NodeConfig } from './config/schema.js'
import type { ParticipantReport } from './participant/types.js'
import type { Offence } from './peers/refusal-book.js'

/** What a snapshot is made of, read at the moment of the question. */
export interface StatusSources {
  readonly version: string
  readonly peerId: PeerId
  readonly config: NodeConfig
  readonly manifest: FederationManifest
  readonly federation: string
  readonly addresses: readonly string[]
  readonly connected: readonly PeerId[]
  readonly traffic: (peer?: PeerId) => TrafficCounters
  readonly bootstrap: readonly BootstrapDiagnosis[]
  readonly hellos: readonly HelloRecord[]
  /** Refused messages by peer and code. */
  readonly refusals: ReadonlyMap<PeerId, Readonly<Record<string, number>>>
  /** What is held against peers. */
  readonly offences: ReadonlyMap<PeerId, Offence>
  readonly trainer: (TrainerDescription & RunningTrainer) | undefined
  readonly participant: ParticipantReport | undefined
  readonly data: Status['data']
  readonly stopping: boolean
  readonly startedAtMs: number
  readonly nowMs: number
}

type RunningTrainer = Pick<ChildTrainer, 'pid' | 'restarts' | 'float32Cosine'>

/** Float32 bytes of one parameter. */
const FLOAT32_BYTES = 4

export function statusOf(sources: StatusSources): Status {
  const { config, manifest, participant, trainer, startedAtMs, nowMs } = sources
  const rounds = participant?.rounds
  const evaluation = evaluationOf(sources)
  return {
    version: sources.version,
    peerId: sources.peerId,
    label: config.label,
    addresses: sources.addresses,
    federation: { name: manifest.name, hash: sources.federation },
    model: {
      path: config.model,
      sha256: manifest.model.sha256,
      parameters: trainer?.schema.size ?? 0,
      schemaHash: trainer?.schema.hash ?? ''
    },
    task: manifest.task.kind,
    device: trainer?.device ?? { used: 'none', reason: 'the trainer is starting' },
    arithmetic: {
      used: arithmeticOf(sources),
      ...(trainer?.float32Cosine === undefined ? {} : { float32Cosine: trainer.float32Cosine })
    },
    phase: phaseOf(sources),
    steps: { done: rounds?.step ?? 0, total: config.training.steps, perSecond: participant?.stepsPerSecond ?? 0 },
    loss: participant?.loss ?? {},
    ...(evaluation === undefined ? {} : { evaluation }),
    ...(sources.data && { data: sources.data }),
    peers: peersOf(sources),
    bytes: bytesOf(sources),
    exchanges: {
      completed: rounds?.exchanges ?? 0,
      failed: Object.values(participant?.failures ?? {}).reduce((sum, count) => sum + count, 0),
      failures: participant?.failures ?? {},
      inDoubt: participant?.driver?.stats().inDoubt ?? 0
    },
    ...mixingOf(sources),
    ...neighbourhoodOf(sources),
    ...broadcastOf(sources),
    refusals: refusalsOf(sources),
    bootstrap: sources.bootstrap.map(bootstrapStatus),
    trainer: { ...(trainer?.pid === undefined ? {} : { pid: trainer.pid }), restarts: trainer?.restarts ?? 0 },
    ...(rounds !== undefined && rounds.exchanges > 0 ? { lastGoodRound: rounds.lastExchangeStep } : {}),
    ...(participant?.saved === undefined ? {} : { checkpoint: participant.saved }),
    startedAtMs,
    uptimeSeconds: (nowMs - startedAtMs) / 1000
  }
}

/** Other devices than the CPU know nothing else. */
const arithmeticOf = ({ config, trainer }: StatusSources): Status['arithmetic']['used'] =>
  trainer?.device.used === 'cpu' ? config.arithmetic : 'float32'

function phaseOf({ stopping, participant }: StatusSources): Phase {
  if (stopping) return 'stopping'
  if (participant === undefined) return 'starting'
  // Done only once the final measurement and checkpoint are there: whoever waits for `done` wants those.
  const { phase } = participant.rounds
  return phase === 'done' && participant.evaluation === undefined ? 'settling' : phase
}

function evaluationOf({ participant, manifest }: StatusSources): Status['evaluation'] {
  const result = participant?.evaluation
  if (result === undefined) return undefined
  const metric = metricOf(manifest.task)
  return { metric, value: metric === 'accuracy' ? result.accuracy : result.loss, atStep: result.atStep }
}

function bytesOf({ participant, traffic, trainer }: StatusSources): Status['bytes'] {
  const { bytesSent, bytesReceived } = traffic()
  const sent = bytesSent + (participant?.bytesBefore.sent ?? 0)
  const float32Equivalent = (participant?.rounds.exchanges ?? 0) * (trainer?.schema.size ?? 0) * FLOAT32_BYTES
  return {
    sent,
    received: bytesReceived + (participant?.bytesBefore.received ?? 0),
    float32Equivalent,
    savedRatio: sent === 0 ? 0 : float32Equivalent / sent
  }
}

function mixingOf({ participant }: StatusSources): Pick<Status, 'mixing'> {
  const stats = participant?.driver?.stats()
  if (stats?.observed.distance === undefined) return {}
  const { exchanges, clipped, distance, crossTerm, crossShare } = stats.observed
  return {
    mixing: {
      distance,
      ...(crossTerm === undefined ? {} : { crossTerm }),
      ...(crossShare === undefined ? {} : { crossShare }),
      clipRate: clipped / exchanges,
      bytesPerExchange: (stats.bytesSent + stats.bytesReceived) / stats.committed
    }
  }
}

/** How near we keep to the others: nothing of it before the trainer is ready. */
function neighbourhoodOf({
  participant,
  manifest
}: StatusSources): Pick<Status, 'staleness' | 'neighbours' | 'caughtUp' | 'statesGiven'> {
  if (participant === undefined) return {}
  const { rounds, neighbours, caughtUp, statesGiven, waitsFor } = participant
  const { isolationFactor, localSteps } = manifest.mixing
  return {
    staleness: {
      steps: rounds.step - rounds.lastExchangeStep,
      limit: isolationFactor * localSteps,
      ...(waitsFor === undefined ? {} : { waitsFor })
    },
    ...(neighbours === undefined ? {} : { neighbours }),
    ...(caughtUp === undefined ? {} : { caughtUp }),
    statesGiven
  }
}

function broadcastOf({ participant }: StatusSources): Pick<Status, 'broadcast'> {
  const stats = participant?.broadcast
  if (stats === undefined) return {}
  const { heads, verdicts: _, equivocations, ...rest } = stats
  const authors = heads.map(({ author, sequence, stop }) => ({
    author,
    sequence,
    ...(stop === undefined ? {} : { stoppedAt: stop.sequence })
  }))
  return { broadcast: { ...rest, caught: equivocations, authors } }
}

/** What we refused and what was refused to us, by code. */
function refusalsOf({ participant, refusals }: StatusSources): Record<string, number> {
  const sum: Record<string, number> = {}
  const add = (counts: Readonly<Record<string, number | undefined>>, prefix = '') => {
    for (const [code, count] of Object.entries(counts)) sum[prefix + code] = (sum[prefix + code] ?? 0) + (count ?? 0)
  }
  for (const counts of refusals.values()) add(counts)
  add(participant?.broadcast?.verdicts ?? {}, 'judged/')
  const stats = participant?.driver?.stats()
  if (stats === undefined) return sum
  add(stats.refusedByUs, 'told/')
  add(stats.refusedByOthers, 'heard/')
  return sum
}

/** Everybody heard of, by announcement, hello, exchange or connection. */
function peersOf(sources: StatusSources): PeerStatus[] {
  const table = sources.participant?.membership.table()
  const ids = new Set([
    ...sources.connected,
    ...sources.hellos.map(({ peer }) => peer),
    ...sources.offences.keys(),
    ...(table?.records.keys() ?? []),
    ...(table?.exchanged.keys() ?? [])
  ])
  return [...ids].sort().map((peer) => peerStatus(sources, peer))
}

function peerStatus(sources: StatusSources, peerId: PeerId): PeerStatus {
  const { participant, traffic, nowMs } = sources
  const announcement = participant?.membership.table().records.get(peerId)?.announcement
  const hello = sources.hellos.find((record) => record.peer === peerId)
  const exchanged = participant?.membership.table().exchanged.get(peerId)
  const step = participant?.rounds.step ?? 0
  const label = announcement?.label ?? (hello !== undefined && 'card' in hello ? hello.card.name : undefined)
  const same = announcement !== undefined || hello?.state === 'member'
  const { bytesSent, bytesReceived } = traffic(peerId)
  const refusedFor = sources.refusals.get(peerId)
  return {
    peerId,
    ...(label === undefined || label === '' ? {} : { label }),
    connected: sources.connected.includes(peerId),
    ...(same ? { sameFederation: true } : hello?.state === 'wrong-federation' ? { sameFederation: false } : {}),
    ...(exchanged === undefined
      ? {}
      : {
          lastExchangeAtMs: exchanged.atMs,
          stalenessMs: nowMs - exchanged.atMs,
          stalenessSteps: step - exchanged.atStep
        }),
    exchanges: participant?.exchangesWith(peerId) ?? 0,
    bytesOut: bytesSent,
    bytesIn: bytesReceived,
    refusals: Object.values(refusedFor ?? {}).reduce((sum, count) => sum + count, 0),
    ...(refusedFor === undefined ? {} : { refusedFor }),
    ...offenceOf(sources, peerId),
    ...observedOf(sources, peerId)
  }
}

function offenceOf({ offences, nowMs }: StatusSources, peer: PeerId): Pick<PeerStatus, 'offence'> {
  const offence = offences.get(peer)
  if (offence === undefined) return {}
  const { rejects: _, bannedUntilMs = 0, ...told } = offence
  return { offence: bannedUntilMs > nowMs ? { ...told, bannedUntilMs } : told }
}

function observedOf({ participant }: StatusSources, peer: PeerId): Pick<PeerStatus, 'distance' | 'crossTerm'> {
  const observed = participant?.driver?.lastExchange(peer)?.observed
  if (observed === undefined) return {}
  const { distance, crossTerm } = observed
  return { distance, ...(crossTerm === undefined ? {} : { crossTerm }) }
}

function bootstrapStatus({ address, state, attempts, lastFailure }: BootstrapDiagnosis): BootstrapStatus {
  if (state === 'connected') return { address, state: 'connected', attempts, sentence: 'connected' }
  if (state === 'self')
    return { address, state: 'connected', attempts, sentence: 'this is the own address of the node' }
  const sentence = lastFailure?.detail ?? 'dialling'
  return { address, state: state === 'bad-address' ? 'failed' : 'trying', attempts, sentence }
}
