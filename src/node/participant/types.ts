import type { Clock } from '../../base/clock.js'
import type { FederationManifest } from '../../base/federation.js'
import type { Logger } from '../../base/log.js'
import type { Verdict } from '../../base/verdict.js'
import type { ExchangeLog } from '../../checkpoint/exchange-log.js'
import type { CheckpointStore } from '../../checkpoint/store.js'
import type { RoundsState } from '../../consensus/rounds.js'
import type { Dataset } from '../../data/batches/batch.js'
import type { PeerId, Transport } from '../../gossip/transport.js'
import type { DatasetEvaluation } from '../../train/evaluate.js'
import type { Trainer } from '../../train/trainer.js'
import type { BroadcastStats } from './broadcast-stats.js'
import type { CatchUpReason } from '../../consensus/catch-up/catch-up.js'
import type { NodeConfig } from '../config/schema.js'
import type { ExchangeTasks, ExchangeTasksInit } from './exchange-types.js'
import type { ExchangeDriver } from './exchange-types.js'
import type { Membership } from '../peers/membership.js'

export interface ParticipantParts {
  readonly config: Pick<NodeConfig, 'training' | 'label' | 'checkpointEvery'>
  readonly manifest: FederationManifest
  /** Hash of the manifest. */
  readonly federation: string
  readonly transport: Transport
  readonly trainer: Trainer
  readonly dataset: Dataset
  readonly store: CheckpointStore
  /** Without it, a crash loses what was exchanged since the last checkpoint. */
  readonly exchangeLog?: ExchangeLog
  /** Takes the arithmetic of exchanges off the event loop, where there are parameters enough. */
  readonly exchangeTasks?: (init: ExchangeTasksInit) => ExchangeTasks
  /** Name and version of the software, for other peers to see. */
  readonly software: string
  readonly clock: Clock
  readonly log: Logger
  /** Something a peer sent was refused; `reject` costs it something. */
  readonly onVerdict: (peer: PeerId, verdict: Verdict) => void
  /** Settled: these parameters are what this peer has learned. */
  readonly onDone?: (parameters: Float32Array) => Promise<void>
}

/** Cross entropy in nats: of the last local step, and smoothed over many. */
export interface LossReport {
  readonly last?: number
  readonly smoothed?: number
}

/** The last time this node looked at others' states and moved. */
export interface CatchUpReport {
  readonly reason: CatchUpReason
  readonly atMs: number
  /** States it went by. */
  readonly sources: number
  /** From where we were to their middle. */
  readonly distance: number
  /** Share of that way that was kept as ours. */
  readonly kept: number
}

/** What the status is made of; live. */
export interface ParticipantReport {
  readonly rounds: RoundsState
  readonly loss: LossReport
  readonly stepsPerSecond: number
  readonly evaluation: (DatasetEvaluation & { readonly atStep: number }) | undefined
  readonly saved: { readonly step: number; readonly atMs: number } | undefined
  /** Payload bytes of earlier lives. */
  readonly bytesBefore: { readonly sent: number; readonly received: number }
  /** Attempts to mix that failed since the start, by code. */
  readonly failures: Readonly<Record<string, number>>
  /**
   * It takes no local steps before it has made an exchange; where peers broadcast, before it has had contact with anybody, or
   * has room: most peers must first have what is kept for them.
   */
  readonly waitsFor?: 'exchange' | 'contact' | 'room'
  /** Absent where peers broadcast. */
  readonly driver?: ExchangeDriver
  /** Where peers broadcast. */
  readonly broadcast?: BroadcastStats
  readonly membership: Membership
  /** The last look at several peers' states; absent where none was needed. */
  readonly caughtUp: CatchUpReport | undefined
  /** States given to others since the start. */
  readonly statesGiven: number
  /** On the federation's overlay; undefined where partners are drawn at random. */
  readonly neighbours: readonly PeerId[] | undefined
  /** Exchanges with a peer since the start. */
  exchangesWith(peer: PeerId): number
}

export interface Participant {
  /** Trains and mixes until the signal aborts, then saves a checkpoint. Rejects when training cannot go on. */
  run(signal: AbortSignal): Promise<void>
  report(): ParticipantReport
}
